"""A sweep on a real scheduler with LocalExecutor: which trials run, the first time and again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(600)]

DEFINITION = """
name: swept
steps:
  prepare:
    kind: command
    command: "echo swept > ${{ outputs.data }}"
    outputs: [data]
  tune:
    kind: python_script
    source_directory: src
    script_name: train.py
    inputs: {data: "${{ steps.prepare.outputs.data }}"}
    outputs: [model]
    sweep:
      parameters: {c: [VALUES], kernel: [rbf, poly]}
      objective: {metric: auc, goal: maximize}
      max_concurrent: 3
      MORE
  report:
    kind: command
    command: "cp ${{ inputs.model }} ${{ outputs.report }}"
    inputs: {model: "${{ steps.tune.outputs.model }}"}
    outputs: [report]
"""

TRAIN = """
import os, pathlib, signal, sys, time
from mlpipe import Run


def parent(process):
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


c, kernel = float(os.environ["MLPIPE_PARAMETER_C"]), os.environ["MLPIPE_PARAMETER_KERNEL"]
if c == 13:
    sys.exit("unlucky")
if c == 66 and pathlib.Path("FLAG").exists():
    os.kill(parent(os.getppid()), signal.SIGKILL)  # Airflow's own process of this task
    time.sleep(60)
Run.get_context().log("auc", c + (kernel == "rbf") / 10)
pathlib.Path(os.environ["MLPIPE_OUTPUT_MODEL"]).write_text(f"{c} {kernel}")
"""

LOADER = """
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "swept_project")  # a sweep is three tasks
# RUN
"""


class Swept:
    """The pipeline in a running Airflow."""

    def __init__(self, airflow):
        self.airflow = airflow
        self.flag = airflow.write("swept_project/flag", "trials of c=66 are killed while this is there")
        airflow.write("swept_project/src/train.py", TRAIN.replace("FLAG", str(self.flag)))
        self.number = 0

    def run(self, *values, more="", state="success"):
        """Define the values to try, run, and return the run's id and the states of its tasks."""
        text = DEFINITION.replace("VALUES", ", ".join(map(str, values))).replace("MORE", more)
        self.airflow.write("swept_project/swept.yaml", text)
        self.number += 1
        self.airflow.write_dag("swept", LOADER.replace("RUN", f"definition {self.number}"), timeout=120)
        run_id, ended = self.airflow.run("swept", timeout=240)
        states = self.airflow.task_states("swept", run_id)
        assert ended == state, states
        return run_id, states

    def outcomes(self, run_id):
        rows = self.airflow.xcom("swept", run_id, "tune", "trials")
        return [row["outcome"] for row in rows]

    def report(self, run_id):
        return Path(urlsplit(self.airflow.xcom("swept", run_id, "report", "report")["uri"]).path).read_text()


@pytest.fixture(scope="module")
def swept(airflow):
    return Swept(airflow)


def trials(*states):
    return {f"tune.trial[{index}]": state for index, state in enumerate(states)}


def test_only_the_trials_that_nobody_has_run_run(swept):
    first, states = swept.run(1, 2, 3)
    done = {"plan": "success", "prepare": "success", "tune.plan": "success", "tune": "success", "report": "success"}
    assert states == {**done, **trials(*["success"] * 6)}
    assert swept.outcomes(first) == ["ran"] * 6
    assert swept.report(first) == "3.0 rbf"

    _, states = swept.run(1, 2, 3)
    assert set(states) == {"plan", "prepare", "tune.plan", "tune.trial", "tune", "report"}  # no task a trial
    assert {name for name, state in states.items() if state != "skipped"} == {"plan"}

    third, states = swept.run(1, 2, 3, 4)
    assert states == {**done, "prepare": "skipped", **trials("success", "success")}
    assert swept.outcomes(third) == ["reused"] * 6 + ["ran"] * 2
    assert swept.report(third) == "4.0 rbf"
    log = swept.airflow.log("swept", third, "tune.plan")
    assert "6 of 8 trials are known, 2 run" in log
    assert "trial 7 (c=4, kernel=rbf) runs" in log
    shown = {task["rendered_map_index"] for task in swept.airflow.tasks("swept", third) if task["map_index"] >= 0}
    assert shown == {"7: c=4, kernel=rbf", "8: c=4, kernel=poly"}

    fourth, states = swept.run(3, 4)
    assert states == {**done, "prepare": "skipped", "tune.trial": "skipped"}  # mapped over nothing
    assert swept.outcomes(fourth) == ["reused"] * 4


def test_a_failed_trial_fails_the_sweep_and_nothing_after_it_runs(swept):
    swept.run(5)
    run_id, states = swept.run(5, 13, state="failed")
    assert states == {
        "plan": "success",
        "prepare": "skipped",
        "tune.plan": "success",
        **trials("failed", "failed"),
        "tune": "failed",
        "report": "upstream_failed",
    }
    log = swept.airflow.log("swept", run_id, "tune")
    assert "2 of 4 trials failed, and none may (sweep.max_failed): trial 3 (c=13, kernel=rbf): " in log
    assert "unlucky" in log

    run_id, states = swept.run(5, 13, more="max_failed: 2")
    assert states["tune"] == states["report"] == "success"
    assert swept.outcomes(run_id) == ["reused", "reused", "failed", "failed"]
    assert swept.report(run_id) == "5.0 rbf"


def test_trials_whose_worker_is_killed_make_no_record_however_many_may_fail_and_run_the_next_time(swept):
    run_id, states = swept.run(6, 66, more="max_failed: 2", state="failed")
    assert {
        **trials("success", "success", "failed", "failed"),
        "tune": "failed",
        "report": "upstream_failed",
    }.items() <= (states.items())
    log = swept.airflow.log("swept", run_id, "tune")
    assert "2 of 4 trials did not come to an end of their own" in log
    assert "trial 3 (c=66, kernel=rbf): it has left no result" in log

    swept.flag.unlink()
    run_id, states = swept.run(6, 66, more="max_failed: 2")
    assert swept.outcomes(run_id) == ["reused", "reused", "ran", "ran"]
    assert swept.report(run_id) == "66.0 rbf"


def test_a_step_before_that_fails_keeps_the_sweep_from_running(swept):
    airflow = swept.airflow
    text = DEFINITION.replace("VALUES", "1").replace("MORE", "").replace("echo swept >", "exit 3; echo swept >")
    airflow.write("swept_project/swept.yaml", text)
    airflow.write_dag("swept", LOADER.replace("RUN", "a step that fails"), timeout=120)
    run_id, ended = airflow.run("swept", timeout=240)
    states = airflow.task_states("swept", run_id)
    assert ended == "failed", states
    assert (states["tune.plan"], states["tune"], states["report"]) == ("upstream_failed", "failed", "upstream_failed")
    assert "not run: tune.plan is upstream_failed" in airflow.log("swept", run_id, "tune")
