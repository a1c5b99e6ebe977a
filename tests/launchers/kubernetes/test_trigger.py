from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from types import SimpleNamespace

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.trigger import PodTrigger
from airflow_mlpipe.runtime.pod import failure
from tests.launchers.kubernetes.states import container, pod, unschedulable

ARGUMENTS = {
    "pod_name": "mlpipe-train",
    "pod_namespace": "ml",
    "base_container_name": "base",
    "trigger_start_time": datetime(2026, 1, 1, tzinfo=timezone.utc),
}


class GoneError(Exception):
    status = 404


class FakeHook:
    """Shows one pod."""

    def __init__(self, shown, events=()):
        self.shown = shown
        self.events = list(events)

    async def get_pod(self, **_):
        if self.shown is None:
            raise GoneError
        return self.shown

    async def get_pod_events(self, *_):
        if not self.events:
            raise PermissionError
        return SimpleNamespace(items=self.events)


async def fired(trigger, shown, events=()):
    trigger._inner.__dict__["hook"] = FakeHook(shown, events)
    trigger.task_instance = None
    return [event.payload async for event in trigger.run()]


def test_a_trigger_that_was_serialized_is_the_same():
    path, arguments = PodTrigger(60.0, 2, ARGUMENTS).serialize()
    assert path == "airflow_mlpipe.launchers.kubernetes.trigger.PodTrigger"
    assert PodTrigger(**arguments).serialize() == (path, arguments)


def test_a_pod_that_does_not_start_in_time_is_told_as_an_error():
    (told,) = asyncio.run(fired(PodTrigger(0, 1, ARGUMENTS), unschedulable("0/1 nodes")))
    error = failure.load(told["error"])
    assert isinstance(error, StepError)
    assert "0/1 nodes" in str(error)
    assert (told["attempt"], told["taken"]) == (1, None)


def test_what_happened_to_an_earlier_pod_of_the_same_name_does_not_count():
    def told_of(uid):
        about = {"name": "p", "uid": uid}
        event = {
            "reason": "FailedCreatePodSandBox",
            "message": "no network",
            "type": "Warning",
            "involvedObject": about,
        }
        pending = pod(phase="Pending")
        pending["metadata"]["uid"] = "now"
        (told,) = asyncio.run(fired(PodTrigger(0, 1, ARGUMENTS), pending, [event]))
        return told["error"]

    assert "no network" in told_of("now")
    assert "no network" not in told_of("before")


def test_a_pod_that_is_gone_is_left_to_who_comes_back():
    (told,) = asyncio.run(fired(PodTrigger(60, 3, ARGUMENTS), None))
    assert told == {"error": "", "since": None, "attempt": 3, "taken": None}


def test_the_providers_trigger_waits_for_a_command_that_runs():
    trigger = PodTrigger(60, 1, ARGUMENTS)

    async def run():
        trigger.ran = True
        return
        yield

    trigger._inner.run = run
    (told,) = asyncio.run(fired(trigger, pod(container("base", running={}), phase="Running")))
    assert trigger.ran
    assert told["error"] == ""
