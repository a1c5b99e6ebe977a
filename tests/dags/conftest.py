"""The examples as a user has them: a copy of `dags/`, and the commands that run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_mlpipe.airflow_home import ensure_database, make_home, process_environment

DAGS = Path(__file__).resolve().parents[2] / "dags"
MLPIPE = Path(sys.executable).with_name("mlpipe")

_THEIRS = ("AIRFLOW", "MLPIPE_HOME", "MLPIPE_STORE", "MLPIPE_WORKSPACE", "MLPIPE_COMPUTE")


def plain_environment(environment=os.environ):
    """Return an environment without what would lead a command to another workspace, store or Airflow."""
    return {name: text for name, text in environment.items() if not name.startswith(_THEIRS)}


def command(*arguments, cwd, env=None):
    """Run a command and return it, failing with what it said if it failed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=env or plain_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def run_pipeline(file, *options):
    """Run a pipeline with `mlpipe run --json`; return its report, with the steps by name."""
    report = json.loads(command(MLPIPE, "run", file.name, "--json", *options, cwd=file.parent).stdout)
    return {**report, "steps": {step["step"]: step for step in report["steps"]}}


def outcomes(report):
    """Return the outcome of each step of a report."""
    return {name: step["outcome"] for name, step in report["steps"].items()}


class Examples:
    """A copy of `dags/` and an Airflow home of its own, to run DAGs in without any service."""

    def __init__(self, folder: Path) -> None:
        self.dags = folder / "dags"
        left = shutil.ignore_patterns("data", ".mlpipe", "__pycache__")
        shutil.copytree(DAGS, self.dags, ignore=left)
        self.home = folder / "home"
        variables = make_home(self.home, self.dags)
        self.environment = plain_environment(process_environment(variables)) | variables
        ensure_database(self.home)

    def python(self, *arguments):
        """Run Python as a process of that Airflow."""
        return command(sys.executable, *arguments, cwd=self.dags, env=self.environment)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return Examples(tmp_path_factory.mktemp("examples"))
