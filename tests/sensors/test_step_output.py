from __future__ import annotations

import asyncio
import json
import re
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferred,
)
from structlog.testing import capture_logs

from airflow_mlpipe.exceptions import DataError, DefinitionError, StoreUnreachableError
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.sensors import StepOutputSensor
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store.log import void
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers.step_output import StepOutputTrigger
from tests.dagfiles import dag_in, parse, tasks
from tests.operators.fake_airflow import MOMENT, TaskInstance

DAY = datetime(2025, 1, 31, tzinfo=timezone.utc)


@pytest.fixture
def dag(tmp_path):
    return dag_in(tmp_path / "dags", "daily")


def sensor(dag, **given):
    task_id = f"wait_{len(dag.tasks)}" if dag.tasks else "wait"
    return StepOutputSensor(**{"task_id": task_id, "dag": dag, "pipeline": "p", "step": "train", "after": DAY, **given})


def deferral(airflow, task, **of_the_run):
    """Return how a sensor defers, and what it logs before."""
    context = airflow.context(task, **of_the_run)
    rendered = airflow.rendered(task, context)
    sentinel = {"StepOutputSensor__sentinel": ExecutorSafeguard.sentinel_value}
    with capture_logs() as logged, pytest.raises(TaskDeferred) as deferred:
        rendered.execute(context, **sentinel)
    return deferred.value, [event["event"] % tuple(event.get("positional_args", ())) for event in logged]


def resumed(airflow, task, event, method="execute_complete", **of_the_run):
    """Return what a sensor returns when it goes on after the triggerer."""
    context = airflow.context(task, **of_the_run)
    kwargs = event if method == "__fail__" else {"event": json.loads(json.dumps(event))}
    return airflow.rendered(task, context).resume_execution(method, kwargs, context)


def fired(trigger):
    """Return the event of a trigger that has come to the triggerer."""
    path, arguments = trigger.serialize()
    assert path == f"{StepOutputTrigger.__module__}.StepOutputTrigger"
    again = StepOutputTrigger(**json.loads(json.dumps(arguments)))

    async def first():
        return (await anext(again.run())).payload

    return asyncio.run(first())


def text_of(output):
    return Path(urlsplit(output["uri"]).path).read_text()


def test_what_is_there_is_returned_as_an_operator_does(world, airflow, dag):
    record = world.ran("r1", outputs=("model", "report"))
    ended = airflow.run(sensor(dag))
    assert set(ended.result) == {"model", "report"}
    assert ended.result["model"].keys() == {"uri", "digest", "size", "files", "kind"}
    assert text_of(ended.result["model"]) == "model of r1\n"
    xcoms = airflow.xcoms["daily", "r1", "wait", -1]
    assert xcoms["model"] == ended.result["model"]
    by = xcoms["confirmed-by"]
    assert {name: by[name] for name in ("pipeline", "run", "step", "outcome", "number")} == {
        "pipeline": "p",
        "run": "r1",
        "step": "train",
        "outcome": "ran",
        "number": record.number,
    }
    assert by["made_by"] == ended.task.made_by == {"pipeline": "p", "run": "r1", "step": "train"}


@pytest.mark.parametrize("output", ["report", ["report"]])
def test_only_the_outputs_that_were_asked_for_are_returned(world, airflow, dag, output):
    world.ran("r1", outputs=("model", "report"))
    assert set(airflow.run(sensor(dag, output=output)).result) == {"report"}


def test_a_command_takes_the_output_of_a_sensor(world, airflow, dag):
    world.ran("r1")
    wait = sensor(dag, output="model")
    copied = CommandOperator(
        task_id="copy",
        dag=dag,
        command="cp ${{ inputs.model }} ${{ outputs.copy }}",
        inputs={"model": wait.output["model"]},
        outputs=["copy"],
    )
    assert copied.upstream_task_ids == {"wait"}
    airflow.run(wait)
    assert text_of(airflow.run(copied).result["copy"]) == "model of r1\n"


def test_it_defers_where_nothing_is_there_and_says_what_it_waits_for(world, airflow, dag):
    world.ran("r0", "2025-01-24")
    before = datetime.now(timezone.utc)
    deferred, said = deferral(airflow, sensor(dag, timeout=100, poke_interval=7))
    assert (deferred.method_name, deferred.trigger.interval) == ("execute_complete", 7)
    until = datetime.fromisoformat(deferred.trigger.until)
    assert timedelta(seconds=99) < until - before < timedelta(seconds=130)
    assert deferred.timeout > timedelta(seconds=150)  # Airflow ends it only if the triggerer does not
    message = (
        "waits for train of p by a run for 2025-01-31 or later; last seen: run r0 made it at 2025-02-01 12:00:01 UTC, "
        "which is for 2025-01-24"
    )
    assert message in said
    assert fired(deferred.trigger.__class__(*_with(deferred.trigger, until=before)))["message"] == message


def _with(trigger, until):
    return trigger.place, trigger.wanted, trigger.seen, 0.1, until.isoformat()


def test_what_the_triggerer_finds_is_taken(world, airflow, dag):
    task = sensor(dag, poke_interval=0.1)
    deferred, _ = deferral(airflow, task)
    world.time = datetime.now(timezone.utc)
    world.ran("r1")
    assert text_of(resumed(airflow, task, fired(deferred.trigger))["model"]) == "model of r1\n"
    assert airflow.xcoms["daily", "r1", "wait", -1]["confirmed-by"]["run"] == "r1"


def test_what_was_lost_between_the_triggerer_and_the_worker_is_waited_for_anew(world, airflow, dag):
    task = sensor(dag, poke_interval=0.1)
    deferred, _ = deferral(airflow, task)
    world.time = datetime.now(timezone.utc)
    record = world.ran("r1")
    event = fired(deferred.trigger)
    void(world.site.store, record.fingerprint, record.number, "output model: it is gone")
    with pytest.raises(TaskDeferred) as again:
        resumed(airflow, task, event)
    assert again.value.trigger.until == event["until"]
    assert again.value.trigger.seen["rejected"] == [f"{record.fingerprint}/{record.number}"]
    assert "voided: output model: it is gone" in again.value.trigger.seen["news"]


def test_what_the_worker_cannot_see_now_is_waited_for_and_not_handed_back_to_it_at_once(
    world, airflow, dag, monkeypatch
):
    task = sensor(dag, poke_interval=0.1)
    deferred, _ = deferral(airflow, task)
    world.time = datetime.now(timezone.utc)
    world.ran("r1")
    event = fired(deferred.trigger)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "names", out_of_reach)
        with pytest.raises(TaskDeferred) as again:
            resumed(airflow, task, event)
    trigger = again.value.trigger
    assert (deferred.trigger.pause, trigger.pause, trigger.seen["rejected"]) == (0, 0.1, [])
    assert resumed(airflow, task, fired(trigger))


def out_of_reach(*_):
    message = "no route"
    raise StoreUnreachableError(message)


def test_a_store_that_is_out_of_reach_at_first_is_waited_for(airflow, dag, monkeypatch):
    monkeypatch.setattr(Store, "names", out_of_reach)
    deferred, said = deferral(airflow, sensor(dag))
    assert any(line.endswith("the last look failed: no route") for line in said)
    assert deferred.trigger.seen["since"] == "2025-01-29"


TIMEOUT = {"status": "timeout", "message": "waits for it; last seen: r0", "until": "", "rejected": []}


def test_a_timeout_says_what_was_waited_for_and_seen_last(airflow, dag):
    with pytest.raises(AirflowSensorTimeout, match=r"nothing came in 100 seconds; waits for it; last seen: r0"):
        resumed(airflow, sensor(dag, timeout=100), TIMEOUT)


def test_a_timeout_is_skipped_with_soft_fail_and_says_the_same(airflow, dag):
    with pytest.raises(AirflowSkipException, match=r"^nothing came in 100 seconds; waits for it; last seen: r0$"):
        resumed(airflow, sensor(dag, timeout=100, soft_fail=True), TIMEOUT)


def test_where_no_triggerer_answers_airflow_ends_the_wait_and_the_message_says_so(airflow, dag):
    late = {"error": "Trigger timeout"}
    said = r"Trigger timeout; waits for train of p by a run for 2025-01-31 or later; the triggerer did not say"
    with pytest.raises(AirflowSensorTimeout, match=said):
        resumed(airflow, sensor(dag), late, "__fail__")
    with pytest.raises(AirflowSkipException, match=said):
        resumed(airflow, sensor(dag, soft_fail=True), late, "__fail__")
    with pytest.raises(TaskDeferralError, match="Trigger failure"):
        resumed(airflow, sensor(dag), {"error": "Trigger failure"}, "__fail__")


def test_waiting_in_vain_fails_whatever_soft_fail_says(world, airflow, dag):
    vain = {"status": "failed", "message": "waits in vain", "confirmed": None, "until": "", "rejected": []}
    with pytest.raises(DataError, match="waits in vain"):
        resumed(airflow, sensor(dag, soft_fail=True), vain)
    with pytest.raises(AirflowSkipException, match="waits in vain"):
        resumed(airflow, sensor(dag, never_fail=True), vain)
    world.ran("r1")
    with pytest.raises(DataError, match="no run of train so far has output modle; there are output model"):
        airflow.run(sensor(dag, output="modle"))


def test_this_runs_logical_date_is_the_earliest_that_counts(world, airflow, dag):
    world.ran("r1", "2025-01-31")
    task = sensor(dag, after=None)
    assert airflow.run(task, logical_date=DAY).result
    deferred, _ = deferral(airflow, task, logical_date=DAY + timedelta(seconds=1))
    assert deferred.trigger.wanted["after"] == "2025-01-31T00:00:01+00:00"


def test_without_a_logical_date_it_is_when_this_run_could_start(world, airflow, dag):
    world.ran("r1", "2025-02-28T12:00:00")
    deferred, _ = deferral(airflow, sensor(dag, after=None))
    assert deferred.trigger.wanted["after"] == MOMENT.isoformat()
    world.reused("r2", "2025-03-01T12:00:00")
    assert airflow.run(sensor(dag, after=None)).result


def test_with_a_condition_any_run_counts(world, airflow, dag):
    world.ran("r1", "2001-01-01", metrics={"accuracy": 0.95})
    assert airflow.run(sensor(dag, after=None, where="metrics.accuracy > 0.9")).result
    deferred, _ = deferral(airflow, sensor(dag, where="metrics.accuracy > 0.9"))
    assert deferred.trigger.wanted["where"] == "metrics.accuracy > 0.9"


@pytest.mark.parametrize(
    "after",
    ["2025-01-31", date(2025, 1, 31), datetime(2025, 1, 31), DAY, "2025-01-31T01:00:00+01:00", "{{ day }}"],  # noqa: DTZ001 -- taken as UTC
)
def test_the_earliest_date_is_given_in_many_ways(airflow, dag, after):
    dag.user_defined_macros = {"day": "2025-01-31 00:00:00+00:00"}
    deferred, _ = deferral(airflow, sensor(dag, after=after))
    assert deferred.trigger.wanted["after"] == "2025-01-31T00:00:00+00:00"


def test_fields_are_templates(airflow, dag):
    dag.user_defined_macros = {"least": 0.9, "name": "p", "print": "a" * 64}
    where = "metrics.accuracy >= {{ least }}"
    task = sensor(dag, pipeline="{{ name }}", after="", where=where, output="mod{{ '' }}el")
    deferred, _ = deferral(airflow, task)
    assert deferred.trigger.wanted["pipeline"] == "p"
    assert deferred.trigger.wanted["where"] == "metrics.accuracy >= 0.9"
    assert deferred.trigger.wanted["outputs"] == ["model"]
    by_print = StepOutputSensor(task_id="print", dag=dag, fingerprint="{{ print }}")
    deferred, said = deferral(airflow, by_print)
    assert deferred.trigger.wanted["fingerprint"] == "a" * 64
    assert "waits for a record of fingerprint aaaaaaaaaaaa...; there is none yet" in said


def test_a_template_that_comes_to_nothing_useful_is_refused_when_it_is_known(airflow, dag):
    task = sensor(dag, after="{{ 'soon' }}", where="{{ 'accuracy' }} > 1")
    with pytest.raises(DefinitionError, match=r"(?s)\.after: must be a date or a time.*\.where: is neither a metric"):
        airflow.run(task)


def test_a_record_of_a_fingerprint_is_waited_for(world, airflow, dag):
    record = world.record("r1", "train")
    ended = airflow.run(StepOutputSensor(task_id="wait", dag=dag, fingerprint=record.fingerprint))
    assert text_of(ended.result["model"]) == "model of r1\n"


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.usefixtures("_first_time")
def test_a_worker_may_look_itself(world, airflow, dag, mode):
    world.ran("r1")
    assert airflow.run(sensor(dag, deferrable=False, mode=mode)).result["model"]["kind"] == "file"


def test_in_poke_mode_it_looks_on_where_it_was(world, airflow, dag, monkeypatch):
    world.ran("r0", "2025-01-24")
    waits = iter([lambda: None, lambda: None, lambda: world.reused("r1")])
    world.time = datetime.now(timezone.utc)
    monkeypatch.setattr("airflow.sdk.bases.sensor.time.sleep", lambda _: next(waits)())
    ended = airflow.run(sensor(dag, deferrable=False, poke_interval=1))
    assert airflow.xcoms["daily", "r1", "wait", -1]["confirmed-by"]["run"] == "r1"
    assert len([line for line in ended.said if line.startswith("waits for")]) == 1


@pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
@pytest.mark.usefixtures("_ago")
def test_in_poke_mode_a_timeout_says_what_was_waited_for_and_seen_last(world, airflow, dag, soft_fail, error):
    world.ran("r0", "2025-01-24")
    with pytest.raises(error, match=r"timed out.*; waits for train of p by .*; last seen: run r0 made it at"):
        airflow.run(sensor(dag, deferrable=False, timeout=1, soft_fail=soft_fail))


@pytest.fixture
def _ago(monkeypatch):
    """Let an hour pass between two looks at the clock."""
    hours = iter(range(1000))
    monkeypatch.setattr("airflow.sdk.bases.sensor.time.monotonic", lambda: next(hours) * 3600.0)


@pytest.fixture
def _first_time(monkeypatch):
    """Nothing was rescheduled yet."""
    monkeypatch.setattr(TaskInstance, "get_first_reschedule_date", lambda *_: None, raising=False)


@pytest.mark.usefixtures("_first_time")
def test_in_reschedule_mode_the_slot_is_given_back_between_looks(airflow, dag):
    with pytest.raises(AirflowRescheduleException):
        airflow.run(sensor(dag, deferrable=False, mode="reschedule"))


def test_in_poke_mode_a_store_out_of_reach_is_waited_for(world, airflow, dag, monkeypatch):
    world.ran("r1")
    names, failing = Store.names, iter([True, False])

    def sometimes(store, prefix):
        if prefix.startswith("journal") and next(failing, False):
            message = "no route"
            raise StoreUnreachableError(message)
        return names(store, prefix)

    monkeypatch.setattr(Store, "names", sometimes)
    monkeypatch.setattr("airflow.sdk.bases.sensor.time.sleep", lambda _: None)
    ended = airflow.run(sensor(dag, deferrable=False))
    assert ended.result
    assert any(line.endswith("the last look failed: no route") for line in ended.said)


def test_that_a_run_uses_an_output_is_written_down_for_retention(world, airflow, dag):
    record = world.ran("r1")
    airflow.run(sensor(dag), run="d1")
    note = runs.read_note(world.site.store, "daily", "d1", "wait")
    assert (note["fingerprint"], note["entry"]) == (record.fingerprint, record.number)
    (entry,) = journal.newest_first(world.site.store, "daily")
    assert (entry.run, entry.uses[0].step) == ("d1", "wait")


def test_a_store_that_may_only_be_read_is_enough(world, airflow, dag, monkeypatch):
    world.ran("r1")

    def read_only(*_):
        message = "read only"
        raise StoreUnreachableError(message)

    monkeypatch.setattr(Store, "write", read_only)
    ended = airflow.run(sensor(dag))
    assert ended.result
    assert "retention does not learn that this run uses it, and may remove it: read only" in ended.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pipeline": ""}, r"pipeline: is missing\. Give pipeline and step, or a fingerprint"),
        ({"step": ""}, r"step: is missing"),
        ({"fingerprint": "a" * 64}, r"after: stands beside[\s\S]*pipeline: stands beside[\s\S]*step: stands beside"),
        ({"fingerprint": "abc"}, r"fingerprint: must be 64 hexadecimal digits \(given: abc\)"),
        ({"output": "a-b"}, r"output: a name consists of .* \(given: a-b\)"),
        ({"output": ["model", "1"]}, r"output: a name consists of .* \(given: 1\)"),
        ({"after": "soon"}, r"after: must be a date or a time \(given: soon\)\. Write it as"),
        ({"where": "accuracy > 1"}, r"where: is neither a metric nor a parameter \(given: accuracy\)\. Write metrics"),
        ({"where": "open('x')"}, r"where: cannot stand in a condition .* Compare metrics\.<name>"),
        ({"where": 5}, r"where: must be a text"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_dag_is_parsed(dag, given, said):
    with pytest.raises(DefinitionError, match=r"StepOutputSensor\(task_id='wait'\)\." + said):
        sensor(dag, **given)


def test_everything_wrong_comes_at_once(dag):
    with pytest.raises(DefinitionError) as error:
        sensor(dag, pipeline="", after="soon", where="x", output="-")
    assert len(error.value.problems) == 4


DAG_FILE = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.sensors import StepOutputSensor

with DAG("daily", schedule=None):
    first = CommandOperator(task_id="first", command="echo > ${{ outputs.o }}", outputs=["o"])
    wait = StepOutputSensor(task_id="wait", pipeline="digits", step="train", output="model", where="metrics.x > 1")
    last = StepOutputSensor(task_id="last", fingerprint=first.output["o"])
    many = StepOutputSensor.partial(task_id="many", pipeline="digits").expand(step=["a", "b"])
    use = CommandOperator(
        task_id="use",
        command="cp ${{ inputs.model }} ${{ outputs.o }}",
        inputs={"model": wait.output["model"]},
        outputs=["o"],
    )
"""


def test_a_dag_file_with_sensors_is_parsed_and_serialized(tmp_path):
    parsed = parse(tmp_path / "daily.py", DAG_FILE)
    assert parsed.errors == {}
    assert parsed.serialized == ("daily",)
    made = tasks(parsed.dags["daily"])
    assert made["wait"]["where"] == "metrics.x > 1"
    assert "use" in made["wait"]["downstream_task_ids"]
    assert "last" in made["first"]["downstream_task_ids"]
    assert made["many"]["_is_mapped"]


def test_the_package_offers_it_without_importing_airflow_before():
    import airflow_mlpipe.sensors as package

    assert package.__all__ == ["StepOutputSensor"]
    with pytest.raises(AttributeError, match=re.escape("module 'airflow_mlpipe.sensors' has no attribute 'Other'")):
        _ = package.Other
