"""The demo, run once as `make demo` runs it, and what it left."""

from __future__ import annotations

import csv
import json
import sys

import pytest

from airflow_mlpipe.definitions import load_pipeline, load_workspace
from tests.dags.conftest import DAGS, command, outcomes, run_pipeline

pytestmark = pytest.mark.timeout(900)  # four runs of the pipeline, on whatever else the machine does

STEPS = ["transfer", "clean", "features", "train", "evaluate", "register"]
TARGETS = {"local": "local", "docker": "docker", "k8s": "kubernetes"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What the demo printed, and the copy it worked on."""
    folder = tmp_path_factory.mktemp("demo")
    done = command(sys.executable, DAGS / "demo" / "run.py", folder, cwd=DAGS.parent)
    return done.stdout, folder / "pipelines"


def tables(printed):
    """Return the outcome of each step, run by run."""
    rows = [line.split() for line in printed.splitlines()]
    found = [(row[0], row[1]) for row in rows if len(row) > 1 and row[0] in STEPS]
    return [dict(found[start : start + len(STEPS)]) for start in range(0, len(found), len(STEPS))]


def test_the_demo_prints_four_tables_with_the_outcomes_it_promises(demo):
    ran, reused = dict.fromkeys(STEPS, "ran"), dict.fromkeys(STEPS, "reused")
    edited = {**reused, "train": "ran", "evaluate": "ran", "register": "ran"}
    assert tables(demo[0]) == [ran, reused, edited, ran]


def test_the_demo_says_why_steps_ran(demo):
    _, edited, landed = demo[0].split("have landed", 1)[1].split("\n\ndigits succeeded")[1:4]
    assert "train.py changed" in edited
    assert "input data" in landed


def test_the_demo_leaves_the_examples_as_they_are(demo):
    script = demo[1] / "src" / "train" / "train.py"
    assert "ITERATIONS = 500" in script.read_text()
    assert "ITERATIONS = 20" in (DAGS / "pipelines" / "src" / "train" / "train.py").read_text()


def test_the_registered_model_lies_at_its_destination(demo):
    registered = demo[1] / "data" / "models" / "digits"
    card = json.loads((registered / "card.json").read_text())
    assert card["accuracy"] > card["champion"]["accuracy"]
    assert (registered / card["model"]).stat().st_size > 0


def test_a_run_that_does_otherwise_than_promised_fails_the_demo(demo):
    wrong = f"from pathlib import Path; import run; run.run(Path({str(demo[1])!r}), run.ALL_RAN)"
    with pytest.raises(AssertionError, match=r"NotAsSaidError: exit code 0 and .* where .* was promised"):
        command(sys.executable, "-c", wrong, cwd=DAGS / "demo")


def test_a_parameter_makes_only_the_steps_run_that_use_it(demo):
    report = run_pipeline(demo[1] / "digits.yaml", "-p", "margin=0.5")
    assert outcomes(report) == {**dict.fromkeys(STEPS, "reused"), "register": "ran"}
    assert report["steps"]["register"]["metrics"] == {"registered": 0}
    assert [path.name for path in (demo[1] / "data" / "models" / "digits").iterdir()] == ["card.json"]


def test_all_months_together_are_the_whole_data_set(tmp_path):
    land = [sys.executable, DAGS / "demo" / "land.py", tmp_path / "landing"]
    command(*land, 2, cwd=tmp_path)
    first = sorted((tmp_path / "landing").iterdir())
    stamps = [path.stat().st_mtime_ns for path in first]
    command(*land, cwd=tmp_path)
    assert [path.stat().st_mtime_ns for path in first] == stamps
    rows = []
    for month in sorted((tmp_path / "landing").iterdir()):
        with month.open(newline="") as file:
            rows += list(csv.reader(file))[1:]
    assert len({tuple(row) for row in rows if row[0]}) == 1797


def test_the_examples_run_on_the_worker_unless_another_target_is_named(monkeypatch):
    monkeypatch.delenv("MLPIPE_COMPUTE", raising=False)
    workspace = load_workspace(DAGS / "pipelines")
    pipeline = load_pipeline(DAGS / "pipelines" / "digits.yaml")
    chosen = {name: {compute_of(workspace.computing_on(name), pipeline, step) for step in STEPS} for name in TARGETS}
    assert {compute_of(workspace, pipeline, step) for step in STEPS} == {"local"}
    assert chosen == {name: {kind} for name, kind in TARGETS.items()}


@pytest.mark.parametrize("target", ["docker", "k8s"])
def test_the_estimator_has_the_software_of_the_other_steps_in_a_container(target):
    workspace = load_workspace(DAGS / "pipelines").computing_on(target)
    pipeline = load_pipeline(DAGS / "pipelines" / "digits.yaml")
    environments = {workspace.environment_of(pipeline, pipeline.step(name)) for name in ("clean", "train", "evaluate")}
    assert [environment.requirements for environment in environments] == [("scikit-learn",)]


def compute_of(workspace, pipeline, step):
    return workspace.compute_of(pipeline, pipeline.step(step)).kind
