"""One fingerprint, one runner, on a real scheduler with a real triggerer."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integration.scheduler.test_pipelines import gone, parent

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(300)]

SHARED = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator

for name in ("first", "second"):
    with DAG(f"{prefix}_{{name}}", schedule=None):
        CommandOperator(
            task_id="slow",
            command="echo $$ >> {ran}; while [ ! -e {go} ]; do sleep 0.2; done; {command}",
            outputs=["out"],
        )
"""


def pids(tmp_path):
    """Return the processes that ran the command."""
    return [int(line) for line in (tmp_path / "ran").read_text().split()]


def both(airflow, tmp_path, prefix, command):
    """Have two DAGs need the same step at the same time; return their run ids once the second is deferred."""
    text = SHARED.format(prefix=prefix, ran=tmp_path / "ran", go=tmp_path / "go", command=command)
    airflow.write_dag(prefix, text)
    first = airflow.trigger(f"{prefix}_first")
    airflow.until((tmp_path / "ran").exists, 60, "the first has not begun")
    second = airflow.trigger(f"{prefix}_second")
    deferred = {"slow": "deferred"}
    airflow.until(lambda: airflow.task_states(f"{prefix}_second", second) == deferred, 60, "the second does not wait")
    return first, second


def test_rule_8_two_dags_that_need_the_same_step_run_it_once_and_the_other_waits_without_a_slot(airflow, tmp_path):
    first, second = both(airflow, tmp_path, "shared", "echo made > ${{ outputs.out }}")
    log = airflow.log("shared_second", second, "slow")
    assert f"gives its slot back while it waits for shared_first / {first} / slow" in log
    assert "which began at 20" in log
    link = airflow.xcom("shared_second", second, "slow", "_link_WaitsForLink")
    assert "/dags/shared_first/runs/" in link
    assert link.endswith("/tasks/slow")
    (tmp_path / "go").touch()
    assert airflow.wait("shared_first", first) == "success"
    assert airflow.wait("shared_second", second) == "success"
    assert len(pids(tmp_path)) == 1
    outputs = [
        airflow.xcom(f"shared_{name}", run, "slow", "out") for name, run in (("first", first), ("second", second))
    ]
    assert outputs[0] == outputs[1]
    log = airflow.log("shared_second", second, "slow")
    assert f"waited: shared_first / {first} / slow computed it in the meantime" in log


def test_rule_8_who_waits_without_a_slot_fails_with_the_holders_error(airflow, tmp_path):
    first, second = both(airflow, tmp_path, "failing", "echo no such luck; exit 7")
    (tmp_path / "go").touch()
    assert airflow.wait("failing_first", first) == "failed"
    assert airflow.wait("failing_second", second) == "failed"
    assert len(pids(tmp_path)) == 1
    log = airflow.log("failing_second", second, "slow")
    assert f"failing_first / {first} / slow, which this step waited for, failed" in log
    assert "no such luck" in log


def test_rule_8_who_waits_without_a_slot_takes_over_from_a_holder_whose_worker_was_killed(airflow, tmp_path):
    first, second = both(airflow, tmp_path, "killed_holder", "echo made > ${{ outputs.out }}")
    (command,) = pids(tmp_path)
    os.kill(parent(parent(command)), signal.SIGKILL)
    airflow.until(lambda: gone(command), 20, "the command outlived its worker")
    airflow.until(lambda: len(pids(tmp_path)) == 2, 60, "nobody took over")
    (tmp_path / "go").touch()
    assert airflow.wait("killed_holder_second", second) == "success"
    assert airflow.wait("killed_holder_first", first, 120) == "failed"
    assert "ran: " in airflow.log("killed_holder_second", second, "slow")
    third, state = airflow.run("killed_holder_first")
    assert state == "success"
    assert f"reused: nothing it depends on has changed since run {second}" in airflow.log(
        "killed_holder_first", third, "slow"
    )
