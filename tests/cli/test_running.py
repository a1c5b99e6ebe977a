"""Real runs, through a real Airflow. Each costs seconds, so each says several things."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.helpers import Project, by_step, call, outcomes

COMMAND = [sys.executable, "-c", "from airflow_mlpipe.cli import main; main()"]
STEP_KEYS = ["step", "outcome", "reasons", "seconds", "fingerprint", "outputs", "metrics"]

MEETING = """\
  {name}:
    kind: command
    command: >
      echo ${{{{ run.logical_date }}}} > ${{{{ outputs.out }}}};
      touch {folder}/{name}; for i in $(seq 200); do test -e {folder}/{other} && exit 0; sleep 0.1; done; exit 3
    outputs: {{out: {{}}}}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The project that ``mlpipe init`` makes, run once as a user would, in a process whose output is piped."""
    folder = tmp_path_factory.mktemp("first")
    call("init", str(folder))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLPIPE_"))}
    done = subprocess.run(
        [*COMMAND, "run", "pipelines/temperature.yaml"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done


@pytest.fixture
def project(first):
    return Temperature(first[0])


class Temperature(Project):
    """The project of ``mlpipe init``."""

    @property
    def file(self) -> Path:
        return self.folder / "pipelines" / "temperature.yaml"


def logs(project: Project) -> set[str]:
    return {path.name for path in project.file.parent.glob(".mlpipe/logs/*/*")}


def test_a_new_project_runs_at_once_and_shows_plain_text(first):
    _, done = first
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["step", "outcome", "why", "time", "outputs", "metrics"]
    assert [row[:2] for row in rows[1:4]] == [["clean", "ran"], ["fit", "ran"], ["evaluate", "ran"]]
    assert "temperature succeeded: 3 ran" in done.stdout
    assert "clean ran in" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_nothing_runs_again_and_airflow_is_not_even_started(project):
    before = logs(project)
    report = project.json("run")
    assert outcomes(report) == dict.fromkeys(("clean", "fit", "evaluate"), "reused")
    assert (report["pipeline"], report["state"]) == ("temperature", "success")
    assert list(report) == ["pipeline", "run_id", "state", "steps"]
    assert [list(step) for step in report["steps"]] == [STEP_KEYS] * 3
    assert logs(project) == before
    fit = by_step(report)["fit"]["outputs"]["model"]
    assert set(fit) == {"uri", "digest", "size", "files"}
    assert Path(fit["uri"].removeprefix("file://")).is_file()
    assert by_step(report)["evaluate"]["metrics"]["rmse"] > 0


def test_a_run_in_which_nothing_ran_can_be_asked_about_like_any_other(project):
    run = project.json("run")["run_id"]
    assert project.json("outputs")["run_id"] == run
    assert outcomes(project.json("explain", "--all", "--run", run)) == outcomes(project.json("run"))


def test_a_run_in_which_nothing_ran_is_written_down_as_a_use_of_what_it_reused(project):
    run = project.json("run")["run_id"]
    used = call("cache", "show", "temperature.fit", "--store", str(project.file.parent / ".mlpipe/store"), "--json")
    last = json.loads(used.stdout)["used_by"][0]
    assert (last["run"], last["step"], last["outcome"]) == (run, "fit", "reused")


def test_an_edit_is_explained_before_and_after_the_run_that_fails_by_it(project):
    project.edit("src/fit/fit.py", "import csv\n", "import csv\nraise SystemExit('no fit today')\n")
    assert "fit.py changed" in project.call("explain", "fit").stdout
    explained = by_step(project.json("explain", "fit"))["fit"]
    assert (explained["outcome"], explained["now"]["decision"]) == ("reused", "run")

    result = project.call("run", "--verbose", "--json", code=1)
    report = json.loads(result.stdout)
    assert report["state"] == "failed"
    assert outcomes(report) == {"clean": "reused", "fit": "failed", "evaluate": "not_run"}
    assert "no fit today" in result.stderr
    assert "[DAG TEST]" in result.stderr  # the log of Airflow, since it is asked for
    assert "fit failed: the command ended with exit code 1" in result.stderr
    assert [reason["component"] for reason in by_step(report)["fit"]["reasons"]] == ["code", "error"]

    assert "fit.py changed" in project.call("explain", "fit", "--run", report["run_id"]).stdout
    project.edit("src/fit/fit.py", "raise SystemExit('no fit today')\n", "")
    assert outcomes(project.json("run")) == dict.fromkeys(("clean", "fit", "evaluate"), "reused")


def test_a_changed_parameter_concerns_only_the_steps_that_use_it(project):
    decisions = {step["step"]: step["decision"] for step in project.json("plan", "-p", "holdout=0.5")["steps"]}
    assert decisions == {"clean": "reuse", "fit": "run", "evaluate": "depends"}
    assert by_step(project.json("plan", "--regenerate", "evaluate"))["evaluate"]["decision"] == "run"


def test_steps_run_side_by_side_if_jobs_are_asked_for_and_a_date_is_the_same_to_airflow(tmp_path):
    steps = [MEETING.format(name=a, other=b, folder=tmp_path).strip("\n") for a, b in (("one", "two"), ("two", "one"))]
    file = tmp_path / "waiting.yaml"
    file.write_text("name: waiting\nsteps:\n" + "\n".join(steps) + "\n")
    arguments = ("run", str(file), "--jobs", "2", "--logical-date", "2025-01-31", "--json")
    assert '"state": "success"' in call(*arguments).stdout
    again = json.loads(call(*arguments).stdout)
    assert outcomes(again) == {"one": "reused", "two": "reused"}
    text = Path(by_step(again)["one"]["outputs"]["out"]["uri"].removeprefix("file://")).read_text()
    assert text.strip() == "2025-01-31T00:00:00+00:00"


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_ends_everything_and_begins_nothing(tmp_path, jobs):
    file = tmp_path / "slow.yaml"
    marker = f"sleep 300.{os.getpid()}"
    naps = [
        f"  nap{number}: {{kind: command, command: 'touch {tmp_path}/begun.{number}; setsid {marker}'}}\n"
        for number in range(jobs + 2)
    ]
    file.write_text("name: slow\nsteps:\n" + "".join(naps))
    process = subprocess.Popen([*COMMAND, "run", str(file), "--jobs", str(jobs)], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("begun.*"))) < jobs and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    assert "interrupted" in error
    assert len(list(tmp_path.glob("begun.*"))) == jobs
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in running if marker.encode() in line.replace(b"\0", b" ")]
    assert not [line for line in running if str(tmp_path).encode() in line]
