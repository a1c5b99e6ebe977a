"""Sweeps and mini-batches by `mlpipe run`, each trial and mini-batch in a container of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests.cli.helpers import Project
from tests.engine import BUSYBOX
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

WORKSPACE = f"compute:\n  box: {{kind: docker, image: '{BUSYBOX}', pull: never}}\n"

SWEEP = """
name: swept
compute: box
steps:
  tune:
    kind: command
    command: |
      [ ${{ parameters.c }} = 13 ] && exit 3
      echo "{\\"name\\": \\"auc\\", \\"value\\": ${{ parameters.c }}}" > "$MLPIPE_STEP_DIRECTORY/metrics.jsonl"
      echo "model of ${{ parameters.c }} of $(cat ${{ inputs.raw }})" > ${{ outputs.model }}
    inputs: {raw: raw.txt}
    outputs: {model: {destination: best.txt}}
    sweep:
      parameters: {c: [VALUES]}
      objective: {metric: auc, goal: maximize}
      max_failed: 1
"""

BATCHES = """
name: dealt
compute: box
steps:
  shrink:
    kind: command
    command: |
      mkdir -p ${{ outputs.thumbs }}
      for file in ${{ inputs.images }}/*; do tr a-z A-Z < "$file" > "${{ outputs.thumbs }}/${file##*/}"; done
    inputs: {images: images}
    outputs: {thumbs: {destination: thumbs}}
    parallel: {over: "${{ inputs.images }}", mini_batch_size: 2}
"""


class Composite:
    """A project whose steps run on an engine."""

    def __init__(self, folder, engine):
        self.project, self.engine = Project.make(folder / "project"), engine
        self.store = Store.open(str(folder / "store"))
        self.variables = {"MLPIPE_CACHE": str(folder / "cache"), "MLPIPE_STORE": str(folder / "store")}
        self.variables |= {"DOCKER_HOST": engine.host, "COLUMNS": "300"}
        self.project.write("mlpipe.yaml", WORKSPACE)

    def run(self, name, text):
        """Run a definition; return what is printed, and what became of each trial or mini-batch that did not exist."""
        known, file = set(self.runs(name)), f"{name}.yaml"
        self.project.write(file, text)
        called = [sys.executable, "-c", "from airflow_mlpipe.cli import main; main()", "run", file]
        done = subprocess.run(
            called,
            cwd=self.project.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (run,) = set(self.runs(name)) - known
        notes = runs.read_notes(self.store, name, run)
        return done.stdout, {step: note["outcome"] for step, note in notes.items() if "[" in step}

    def runs(self, name):
        return runs.runs(self.store, name)


@pytest.fixture(scope="module")
def made(tmp_path_factory, engine):
    """One project for all: the database of its Airflow takes longer to make than its steps to run."""
    return Composite(tmp_path_factory.mktemp("composite"), engine)


@pytest.fixture
def composite(made, engine):
    yield made
    assert eventually(lambda: not engine.containers())
    assert engine.volumes() == []


def test_each_trial_of_a_sweep_runs_in_a_container_and_is_reused_by_itself(composite):
    composite.project.write("raw.txt", "raw")
    said, ran = composite.run("swept", SWEEP.replace("VALUES", "1, 13, 2"))
    assert "swept succeeded: 1 ran" in said
    assert ran == {"tune[1]": "ran", "tune[2]": "failed", "tune[3]": "ran"}
    best = composite.project.folder / "best.txt"
    assert best.read_text() == "model of 2 of raw\n"
    said, ran = composite.run("swept", SWEEP.replace("VALUES", "1, 13, 2"))
    assert "swept succeeded: 1 reused" in said
    assert ran == {}
    _, ran = composite.run("swept", SWEEP.replace("VALUES", "1, 2, 4"))
    assert ran == {"tune[3]": "ran"}
    assert best.read_text() == "model of 4 of raw\n"


def test_each_mini_batch_runs_in_a_container_and_new_files_cost_only_themselves(composite):
    for name in "abc":
        composite.project.write(f"images/{name}", f"{name} image")
    _, ran = composite.run("dealt", BATCHES)
    assert ran == {"shrink[1]": "ran", "shrink[2]": "ran"}
    thumbs = composite.project.folder / "thumbs"
    assert {path.name: path.read_text() for path in thumbs.iterdir()} == {n: f"{n.upper()} IMAGE" for n in "abc"}
    composite.project.write("images/d", "d image")
    _, ran = composite.run("dealt", BATCHES)
    assert ran == {"shrink[3]": "ran"}
    assert sorted(path.name for path in thumbs.iterdir()) == ["a", "b", "c", "d"]
