"""Tasks of operators whose launcher leaves the waiting to the triggerer, as Airflow runs and resumes them."""

# ruff: noqa: ARG002 -- called as every launcher is
from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout, TaskDeferred

from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store.entries import Log
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers.launch import LaunchTrigger
from tests.dagfiles import dag_in
from tests.triggers.waits import Soon

TEXT = "echo ${{ parameters.text }} > ${{ outputs.said }}"


class Remote:
    """Runs steps elsewhere, in no time."""

    def __init__(self, store, folder):
        self.store, self.folder = store, folder

    def launch(self, spec, fingerprint, claim, secrets, log):
        raise TaskDeferred(trigger=Soon({"text": spec.parameters["text"]}), method_name="look")

    def resume(self, spec, fingerprint, claim, secrets, log, method, event):
        assert method == "look"
        (self.folder / "said").write_text(event["text"])
        content = publish(self.store, fingerprint, claim, "said", self.folder / "said")
        outputs = {"said": OutputRef(layout.output(fingerprint, claim, "said"), content)}
        return StepResult(exit_code=0, outputs=outputs)

    def kill(self): ...

    def lives(self, spec, fingerprint, claim):
        return False

    def end(self, spec, fingerprint, claim):
        (self.folder / "ended").write_text(claim)


class RemoteOperator(CommandOperator):
    """A step that runs elsewhere."""

    def _launcher(self, site, spec):
        return Remote(site.store, self._folder())


@pytest.fixture
def say(tmp_path):
    with dag_in(tmp_path, params={"text": "hello"}) as dag:
        yield RemoteOperator(task_id="say", command=TEXT, outputs=["said"], dag=dag)


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def left(airflow, say, **of_the_run):
    with pytest.raises(TaskDeferred) as deferred:
        airflow.run(say, **of_the_run)
    return deferred.value


def resumed(airflow, say, deferred, **of_the_run):
    """Resume a task as Airflow does: another operator, and what the trigger tells as it was kept."""
    path, arguments = deferred.trigger.serialize()
    assert path == f"{LaunchTrigger.__module__}.LaunchTrigger"

    async def told():
        return (await anext(LaunchTrigger(**arguments).run())).payload

    context = airflow.context(say, **of_the_run)
    return airflow.rendered(say, context).resume_execution(
        deferred.method_name, {"event": asyncio.run(told())}, context
    )


def test_a_task_leaves_its_slot_and_returns_the_outputs_when_it_is_resumed(airflow, say, store):
    deferred = left(airflow, say)
    assert deferred.kwargs is None
    result = resumed(airflow, say, deferred)
    assert store.read(store.path_of(result["said"]["uri"])) == b"hello"
    assert airflow.run(say, "r2").said[-1] == "reused: nothing it depends on has changed since run r1"


def test_a_task_that_is_resumed_goes_on_with_what_was_bound_whatever_has_changed(airflow, say, store):
    deferred = left(airflow, say)
    result = resumed(airflow, say, deferred, conf={"text": "bye"})
    assert store.read(store.path_of(result["said"]["uri"])) == b"hello"


@pytest.mark.parametrize(
    ("reason", "raised"), [("Trigger failure", TaskDeferralError), ("Trigger timeout", TaskDeferralTimeout)]
)
def test_a_wait_that_failed_in_the_triggerer_ends_what_was_launched_and_gives_the_claim_back(
    airflow, say, store, tmp_path, reason, raised
):
    deferred = left(airflow, say)
    launch = deferred.trigger.launch
    context = airflow.context(say)
    with pytest.raises(raised):
        airflow.rendered(say, context).resume_execution("__fail__", {"error": reason}, context)
    assert (tmp_path / "ended").read_text() == launch["work"]
    log = Log.read(store, launch["fingerprint"])
    assert (log.holder, log.failure(launch["claim"])) == (None, reason)
    by_itself = raised is TaskDeferralTimeout  # it took too long; else the triggerer failed
    assert log.failed_by_itself(launch["claim"]) is by_itself
    assert runs.read_note(store, launch["pipeline"], launch["run"], launch["step"])["own"] is by_itself


def test_a_wait_has_the_time_that_the_task_has(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "hello"}) as dag:
        say = RemoteOperator(
            task_id="say", command=TEXT, outputs=["said"], dag=dag, execution_timeout=timedelta(hours=5)
        )
    assert left(airflow, say).timeout == timedelta(hours=5)
