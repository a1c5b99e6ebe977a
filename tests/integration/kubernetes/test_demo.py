"""The demo pipeline in pods: the definition stays, and one word says where its steps run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from tests.integration.kubernetes.cluster import image, namespace

if TYPE_CHECKING:
    from tests.integration.kubernetes.cluster import Namespace
    from tests.s3 import Server

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3, pytest.mark.timeout(900)]

DAGS = Path(__file__).resolve().parents[3] / "dags"
STEPS = ["transfer", "clean", "features", "train", "evaluate", "register"]
SCRIPTS = STEPS[1:]
REUSED = dict.fromkeys(STEPS, "reused")
AFTER_C = {**REUSED, **dict.fromkeys(["train", "evaluate", "register"], "ran")}

BUILT = """\
    requirements: [scikit-learn]
    build: {base: python:3.12-slim, python: "3.12"}
"""
SMALL = """\
    namespace: {namespace}
    staging_image: "{staging}"
    resources: {{requests: {{cpu: 10m, memory: 32Mi}}}}
    staging_resources: {{requests: {{cpu: 10m, memory: 64Mi}}}}
"""
LAKE = """\
store: {{url: "{store}", connection: lake}}
defaults: {{environment: {{compare: declared}}}}
"""


@dataclass
class Demo:
    """A copy of the examples: it says which store, namespace and images there are, and nothing else is changed."""

    folder: Path
    namespace: Namespace
    server: Server
    store: str
    runs: dict[str, tuple[dict[str, str], list[str]]] = field(default_factory=dict)
    """By what was done: the outcome of each step, and the steps that pods were started for."""

    def prepare(self) -> None:
        left = shutil.ignore_patterns("data", ".mlpipe", "__pycache__")
        shutil.copytree(DAGS / "pipelines", self.folder, ignore=left)
        self.edit(BUILT, f'    {{image: "{image("sklearn")}", python: python3, compare: declared}}\n')
        self.edit("    namespace: mlpipe\n", SMALL.format(namespace=self.namespace.name, staging=image("staging")))
        with (self.folder / "mlpipe.yaml").open("a") as workspace:
            workspace.write(LAKE.format(store=self.store))
        land = [sys.executable, str(DAGS / "demo" / "land.py"), str(self.folder / "data/landing/digits"), "2"]
        subprocess.run(land, check=True, capture_output=True)

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "mlpipe.yaml"
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new))

    def run(self, name: str, *options: str) -> None:
        before = self.started()
        report = self.mlpipe("run", *options)
        outcomes = {step["step"]: step["outcome"] for step in report["steps"]}
        new = {uid: step for uid, step in self.started().items() if uid not in before}
        self.runs[name] = outcomes, sorted(new.values())

    def mlpipe(self, command: str, *options: str) -> Any:
        ours = {name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW", "MLPIPE_"))}
        called = [str(Path(sys.executable).with_name("mlpipe")), command, "digits.yaml", "--json", *options]
        cache = str(self.folder.parent / "cache")
        environment = {**ours, "AIRFLOW_CONN_LAKE": self.server.connection(), "MLPIPE_CACHE": cache}
        done = subprocess.run(called, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def started(self) -> dict[str, str]:
        """Return for which step a pod was placed on a node, by its uid."""
        found = self.namespace.api.list_namespaced_event(self.namespace.name, field_selector="reason=Scheduled").items
        pods = [event.involved_object for event in found]
        return {pod.uid: next(step for step in STEPS if step in pod.name) for pod in pods}

    def stored(self) -> dict[str, bytes]:
        fs = fsspec.filesystem("s3", **self.server.options, skip_instance_cache=True, use_listings_cache=False)
        return {path: fs.cat_file(path) for path in fs.find(self.store.removeprefix("s3://"))}


@pytest.fixture(scope="module")
def demo(tmp_path_factory, s3, _images):
    """The runs, each after the one before, in a namespace where no other test has left events."""
    with namespace() as own:
        demo = Demo(tmp_path_factory.mktemp("demo") / "pipelines", own, s3, s3.fresh())
        demo.prepare()
        demo.run("first", "--compute", "k8s")
        demo.run("again", "--compute", "k8s")
        demo.run("other c", "--compute", "k8s", "-p", "c=0.5")
        demo.run("local", "-p", "c=0.5")
        yield demo


def test_one_word_runs_every_script_in_a_pod_and_the_transfer_on_the_worker(demo):
    assert demo.runs["first"] == (dict.fromkeys(STEPS, "ran"), sorted(SCRIPTS))


def test_a_second_run_starts_no_pod(demo):
    assert demo.runs["again"] == (REUSED, [])


def test_with_another_parameter_the_steps_that_use_it_run_and_what_follows_and_no_more(demo):
    assert demo.runs["other c"] == (AFTER_C, ["evaluate", "register", "train"])


def test_the_worker_reuses_what_pods_made_where_environments_are_declared_equal(demo):
    assert demo.runs["local"] == (REUSED, [])


def test_the_model_that_pods_made_is_delivered(demo):
    card = demo.folder / "data" / "models" / "digits" / "card.json"
    assert json.loads(card.read_text())["accuracy"] > 0.5


def test_nothing_is_left_at_the_cluster_and_what_pods_were_lent_is_gone_from_the_store(demo):
    assert demo.namespace.pods() == []
    assert not [path for path in demo.stored() if "/.inputs/" in path]
