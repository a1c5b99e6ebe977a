"""A sensor in an existing DAG waits for a pipeline's output, on a real scheduler with a real triggerer."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.scheduler.project import Project

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(300)]

CONSUMER = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.sensors import StepOutputSensor

with DAG("consumer", schedule=None):
    wait = StepOutputSensor(task_id="wait", pipeline="sensed", step="train", output="model", poke_interval=1)
    CommandOperator(
        task_id="copy",
        command="cp ${{ inputs.model }} ${{ outputs.copy }}",
        inputs={"model": wait.output["model"]},
        outputs=["copy"],
    )

for name, given in {
    "late": {"timeout": 3, "where": "parameters.c > 100"},
    "late_skipped": {"timeout": 3, "where": "parameters.c > 100", "soft_fail": True},
    "vain": {"output": "modle", "where": "parameters.c > 0"},
    "rescheduled": {"deferrable": False, "mode": "reschedule", "where": "parameters.c == 1"},
}.items():
    with DAG(name, schedule=None):
        StepOutputSensor(task_id="wait", pipeline="sensed", step="train", poke_interval=1, **given)
"""


@pytest.fixture(scope="module")
def producer(airflow):
    return Project.create(airflow, "sensed")


@pytest.fixture(scope="module")
def consumers(airflow):
    airflow.write_dag("consumers", CONSUMER)


def waiting(airflow, dag_id):
    """Start a DAG, and return the id of its run once its sensor waits without a slot."""
    run_id = airflow.trigger(dag_id)
    airflow.until(
        lambda: airflow.task_states(dag_id, run_id)["wait"] == "deferred",
        60,
        lambda: airflow.log(dag_id, run_id, "wait"),
    )
    return run_id


def taken(airflow):
    """Return how many slots of the pool are running, queued and deferred."""
    pool = airflow.airflow.get("/pools/default_pool")
    return pool["running_slots"], pool["queued_slots"], pool["deferred_slots"]


def ended(airflow, dag_id, run_id):
    assert airflow.wait(dag_id, run_id) == "success", airflow.log(dag_id, run_id, "wait")
    return airflow.xcom(dag_id, run_id, "wait", "confirmed-by")


def content(airflow, dag_id, run_id, task_id, output):
    return Path(urlsplit(airflow.xcom(dag_id, run_id, task_id, output)["uri"]).path).read_text()


@pytest.mark.usefixtures("consumers")
def test_a_sensor_waits_without_a_slot_and_passes_on_what_a_run_made_and_later_what_one_reused(airflow, producer):
    run_id = waiting(airflow, "consumer")
    airflow.until(lambda: taken(airflow) == (0, 0, 1), 60, lambda: f"running, queued, deferred: {taken(airflow)}")
    assert airflow.task_states("consumer", run_id) == {"wait": "deferred", "copy": None}

    first, _ = producer.run()
    by = ended(airflow, "consumer", run_id)
    assert (by["pipeline"], by["run"], by["outcome"]) == ("sensed", first, "ran")
    assert content(airflow, "consumer", run_id, "copy", "copy") == content(airflow, "sensed", first, "train", "model")
    log = airflow.log("consumer", run_id, "wait")
    assert "waits for output model of train of sensed by a run for" in log
    assert "no run of sensed has ended a step yet" in log
    assert "every 1.0 seconds, together with whoever waits for the same" in log

    run_id = waiting(airflow, "consumer")
    second, states = producer.run()
    assert states["train"] == "skipped"
    by = ended(airflow, "consumer", run_id)
    assert (by["run"], by["outcome"], by["made_by"]["run"]) == (second, "reused", first)
    log = airflow.log("consumer", run_id, "wait")
    assert f"last seen: run {first} made it at" in log
    assert f"/runs/{first}/" in airflow.xcom("consumer", run_id, "wait", "_link_MadeByLink").replace(
        "%3A", ":"
    ).replace("%2B", "+")
    assert "reused: nothing it depends on has changed" in airflow.log("consumer", run_id, "copy")


@pytest.mark.usefixtures("consumers")
def test_a_sensor_that_waited_too_long_says_what_it_saw_last_and_soft_fail_skips_it(airflow, producer):
    last, _ = producer.run()
    runs = {dag_id: airflow.run(dag_id) for dag_id in ("late", "late_skipped")}
    assert [state for _, state in runs.values()] == ["failed", "success"]
    assert airflow.task_states("late_skipped", runs["late_skipped"][0]) == {"wait": "skipped"}
    for dag_id, (run_id, _) in runs.items():
        log = airflow.log(dag_id, run_id, "wait")
        said = f"waits for train of sensed by a run with parameters.c > 100; last seen: run {last}"
        assert said in log
        assert "but parameters.c is 1.0" in log
    assert f"nothing came in 3 seconds; {said}" in airflow.log("late", runs["late"][0], "wait")


@pytest.mark.usefixtures("consumers")
def test_a_sensor_that_would_wait_in_vain_fails_at_once_and_names_what_there_is(airflow, producer):
    producer.run()
    run_id, state = airflow.run("vain")
    assert state == "failed"
    assert "no run of train so far has output modle; there are output model" in airflow.log("vain", run_id, "wait")


@pytest.mark.usefixtures("consumers")
def test_a_worker_may_wait_too_in_reschedule_mode(airflow, producer):
    last, _ = producer.run()
    run_id = airflow.trigger("rescheduled")
    assert ended(airflow, "rescheduled", run_id)["run"] == last


CONNECTED = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.sensors import StepOutputSensor

with DAG("connected_producer", schedule=None):
    CommandOperator(task_id="make", command="date +%N > ${{ outputs.out }}", outputs=["out"], workspace={workspace!r})

with DAG("connected_consumer", schedule=None):
    StepOutputSensor(
        task_id="wait", pipeline="connected_producer", step="make", poke_interval=1, workspace={workspace!r}
    )
"""


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path):
    """The URL of a store, and the connection that opens it as the API takes it."""
    if request.param == "local":
        extra = json.dumps({"storage_options": {"auto_mkdir": True}})
        yield f"file://{tmp_path}/store", {"conn_type": "generic", "extra": extra}
        return
    from tests.s3 import s3_server

    with s3_server() as server:
        connection = json.loads(server.connection())
        yield server.fresh(), {**connection, "extra": json.dumps(connection["extra"])}


def test_the_triggerer_asks_airflow_for_the_connection_of_the_store(airflow, store, tmp_path):
    url, connection = store
    name = f"sensed_{connection['conn_type']}"
    airflow.airflow.post("/connections", {"connection_id": name, **connection})
    workspace = tmp_path / "mlpipe.yaml"
    workspace.write_text(f"store: {{url: {url}, connection: {name}}}\n")
    airflow.write_dag("connected", CONNECTED.replace("{workspace!r}", repr(str(workspace))))
    run_id = waiting(airflow, "connected_consumer")
    made, state = airflow.run("connected_producer")
    assert state == "success"
    assert ended(airflow, "connected_consumer", run_id)["run"] == made
    log = airflow.log("connected_consumer", run_id, "wait")
    assert f"looks at {url} every" in log
    assert "the last look failed" not in log
