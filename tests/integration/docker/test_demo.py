"""The demo pipeline in containers: the definition stays, and one word says where its steps run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.docker.packages import make_sklearn

if TYPE_CHECKING:
    from tests.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

DAGS = Path(__file__).resolve().parents[3] / "dags"
STEPS = ["transfer", "clean", "features", "train", "evaluate", "register"]
SCRIPTS = STEPS[1:]
REUSED = dict.fromkeys(STEPS, "reused")
AFTER_THE_EDIT = {**REUSED, **dict.fromkeys(["train", "evaluate", "register"], "ran")}

BUILT = """\
    requirements: [scikit-learn]
    build: {base: python:3.12-slim, python: "3.12"}
"""


@dataclass
class Demo:
    """A copy of the examples, whose environment of containers names an image in place of one to be built."""

    folder: Path
    engine: Engine
    runs: dict[str, tuple[dict[str, str], int]] = field(default_factory=dict)
    """By what was done: the outcome of each step, and how many containers were started."""

    def prepare(self) -> None:
        left = shutil.ignore_patterns("data", ".mlpipe", "__pycache__")
        shutil.copytree(DAGS / "pipelines", self.folder, ignore=left)
        self.edit("mlpipe.yaml", BUILT, f"    {{image: {make_sklearn(self.engine)}, compare: declared}}\n")
        self.edit("mlpipe.yaml", "kind: docker\n", "kind: docker\n    pull: never\n")
        with (self.folder / "mlpipe.yaml").open("a") as workspace:
            workspace.write("defaults: {environment: {compare: declared}}\n")
        land = [sys.executable, str(DAGS / "demo" / "land.py"), str(self.folder / "data/landing/digits"), "2"]
        subprocess.run(land, check=True, capture_output=True)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert old in text, (path, old)
        (self.folder / path).write_text(text.replace(old, new))

    def mlpipe(self, command: str, *options: str) -> Any:
        ours = {name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW", "MLPIPE_"))}
        called = [str(Path(sys.executable).with_name("mlpipe")), command, "digits.yaml", "--json", *options]
        environment = {**ours, "DOCKER_HOST": self.engine.host, "MLPIPE_CACHE": str(self.folder.parent / "cache")}
        done = subprocess.run(called, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, name: str, *options: str) -> None:
        since = time.time()
        report = self.mlpipe("run", *options)
        outcomes = {step["step"]: step["outcome"] for step in report["steps"]}
        self.runs[name] = outcomes, self.started(since)

    def started(self, since: float) -> int:
        with self.engine.client() as client:
            wanted = {"type": "container", "event": "start"}
            return len(list(client.events(since=since, until=time.time(), filters=wanted, decode=True)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory, engine):
    """The runs, each after the one before."""
    demo = Demo(tmp_path_factory.mktemp("demo") / "pipelines", engine)
    demo.prepare()
    demo.run("first", "--compute", "docker")
    demo.run("again", "--compute", "docker")
    demo.edit("src/train/train.py", "ITERATIONS = 20", "ITERATIONS = 50")
    demo.run("edited", "--compute", "docker")
    demo.run("local")
    return demo


def test_one_word_runs_every_script_in_a_container_and_the_transfer_on_the_worker(demo):
    assert demo.runs["first"] == (dict.fromkeys(STEPS, "ran"), len(SCRIPTS))
    targets = {spec["step"]: spec.get("target", {}).get("kind", "local") for spec in first_plan(demo.folder)}
    assert targets == {"transfer": "local", **dict.fromkeys(SCRIPTS, "docker")}


def test_a_second_run_starts_no_container(demo):
    assert demo.runs["again"] == (REUSED, 0)


def test_a_changed_training_script_runs_and_what_follows_and_no_more(demo):
    assert demo.runs["edited"] == (AFTER_THE_EDIT, 3)


def test_the_worker_reuses_what_containers_made_where_environments_are_declared_equal(demo):
    assert demo.runs["local"] == (REUSED, 0)


def test_the_model_that_containers_made_is_delivered_and_belongs_to_the_worker(demo):
    card = demo.folder / "data" / "models" / "digits" / "card.json"
    assert json.loads(card.read_text())["accuracy"] > 0.5
    assert {path.stat().st_uid for path in demo.folder.rglob("*")} == {os.getuid()}


def test_nothing_is_left_at_the_engine(demo):
    assert demo.engine.containers() == []
    assert demo.engine.volumes() == []


def first_plan(folder):
    """Return what the plan of the first run says of each step."""
    plans = (folder / ".mlpipe" / "store" / "runs").rglob("plan.json")
    first = min(plans, key=lambda path: path.stat().st_mtime)
    return [step["spec"] for step in json.loads(first.read_text())["steps"]]
