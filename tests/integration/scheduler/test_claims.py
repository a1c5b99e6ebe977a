"""One fingerprint, one runner, on a real scheduler with a real triggerer."""

from __future__ import annotations

import json
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
            workspace={workspace!r},
        )
"""


def pids(tmp_path):
    """Return the processes that ran the command."""
    return [int(line) for line in (tmp_path / "ran").read_text().split()]


def both(airflow, tmp_path, prefix, command, workspace=None):
    """Have two DAGs need the same step at the same time; return their run ids once the second is deferred."""
    places = {"ran": tmp_path / "ran", "go": tmp_path / "go", "workspace": workspace}
    text = SHARED.format(prefix=prefix, command=command, **places)
    airflow.write_dag(prefix, text)
    first = airflow.trigger(f"{prefix}_first")
    airflow.until((tmp_path / "ran").exists, 60, "the first has not begun")
    second = airflow.trigger(f"{prefix}_second")
    deferred = {"slow": "deferred"}
    airflow.until(lambda: airflow.task_states(f"{prefix}_second", second) == deferred, 60, "the second does not wait")
    return first, second


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, airflow, tmp_path):
    """What kind of store it is, and the workspace that names it; None for the one in Airflow's home."""
    if request.param == "local":
        return request.param, None
    server = request.getfixturevalue("s3")
    connection = json.loads(server.connection())
    extra = json.dumps(connection.pop("extra"))
    airflow.airflow.post("/connections", {"connection_id": tmp_path.name, "extra": extra, **connection})
    workspace = tmp_path / "mlpipe.yaml"
    workspace.write_text(f"store: {{url: {server.fresh()}, connection: {tmp_path.name}}}\n")
    return request.param, str(workspace)


def test_rule_8_two_dags_that_need_the_same_step_run_it_once_and_the_other_waits_without_a_slot(
    airflow, tmp_path, store
):
    kind, workspace = store
    prefix = f"shared_{kind}"
    first, second = both(airflow, tmp_path, prefix, "echo made > ${{ outputs.out }}", workspace)
    said = f"gives its slot back while it waits for {prefix}_first / {first} / slow"
    waiter = f"{prefix}_second", second, "slow"
    airflow.until(lambda: said in airflow.log(*waiter), 30, "it does not say whom it waits for")
    assert "which began at 20" in airflow.log(*waiter)
    link_of = f"{prefix}_second", second
    linked = "_link_WaitsForLink"  # written after the state
    airflow.until(lambda: linked in airflow.xcoms(*link_of).get("slow", ()), 60, "there is no link")
    link = airflow.xcom(*link_of, "slow", linked)
    assert f"/dags/{prefix}_first/runs/" in link
    assert link.endswith("/tasks/slow")
    (tmp_path / "go").touch()
    assert airflow.wait(f"{prefix}_first", first) == "success"
    assert airflow.wait(f"{prefix}_second", second) == "success"
    assert len(pids(tmp_path)) == 1
    outputs = [
        airflow.xcom(f"{prefix}_{name}", run, "slow", "out") for name, run in (("first", first), ("second", second))
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0]["uri"].startswith("file:" if kind == "local" else "s3:")
    log = airflow.log(f"{prefix}_second", second, "slow")
    assert f"waited: {prefix}_first / {first} / slow computed it in the meantime" in log


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
