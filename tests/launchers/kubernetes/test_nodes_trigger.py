from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.launchers.kubernetes import nodes_trigger
from airflow_mlpipe.launchers.kubernetes.nodes_trigger import NodesTrigger
from airflow_mlpipe.runtime.pod import failure
from tests.launchers.kubernetes.states import ended
from tests.launchers.kubernetes.test_fates import TARGET, at, node
from tests.launchers.kubernetes.test_gathering import RUNS, stuck, thing
from tests.launchers.kubernetes.test_trigger import ARGUMENTS, GoneError

PLACE = {"group": "batch", "version": "v1", "namespace": "ml", "plural": "jobs"}


def trigger(patience=60.0):
    return NodesTrigger(
        patience=patience,
        attempt=2,
        nodes=2,
        made="mlpipe-train",
        place=PLACE,
        interval=None,
        shown=None,
        arguments=ARGUMENTS,
    )


class FakeCluster:
    """Shows what it has one after the other; the last of it again and again."""

    def __init__(self, *looks):
        self.looks = list(looks)
        self.deleted = []

    @asynccontextmanager
    async def get_conn(self):
        yield self

    async def get_namespaced_custom_object(self, **_):
        if self.looks[0] is None:
            raise GoneError
        return self.looks[0][0]

    async def delete_namespaced_custom_object(self, **given):
        self.deleted.append(given)

    async def list_namespaced_pod(self, *_, **__):
        pods = self.looks[0][1]
        if len(self.looks) > 1:
            self.looks.pop(0)
        return SimpleNamespace(items=pods)

    async def list_namespaced_event(self, *_, **__):
        raise PermissionError


def fired(made, cluster, monkeypatch):
    monkeypatch.setattr(nodes_trigger, "CoreV1Api", lambda connection: connection)
    monkeypatch.setattr(nodes_trigger, "CustomObjectsApi", lambda connection: connection)
    monkeypatch.setattr(nodes_trigger, "_INTERVAL", 0)
    made._hook = cluster

    async def run():
        return [event.payload async for event in made.run()]

    (told,) = asyncio.run(run())
    return told


def test_a_trigger_that_was_serialized_is_the_same():
    path, arguments = trigger().serialize()
    assert path == "airflow_mlpipe.launchers.kubernetes.nodes_trigger.NodesTrigger"
    assert NodesTrigger(**arguments).serialize() == (path, arguments)


def test_it_waits_until_the_job_has_ended(monkeypatch):
    both = [node(0, RUNS), node(1, RUNS)]
    cluster = FakeCluster((thing(), []), (thing(), both), (thing("Job", "Complete"), both))
    assert fired(trigger(), cluster, monkeypatch) == {"error": "", "since": None, "attempt": 2, "taken": None}
    assert len(cluster.looks) == 1


def test_a_node_that_does_not_start_in_time_is_told_as_an_error(monkeypatch):
    told = fired(trigger(0), FakeCluster((thing(), [node(0, RUNS), stuck(1)])), monkeypatch)
    error = failure.load(told["error"])
    assert isinstance(error, StepError)
    assert str(error).startswith("node 1 of 2: ")


def test_a_node_that_was_drained_is_told(monkeypatch):
    drained = [node(0, RUNS), node(1, ended("base", 143), phase="Failed", conditions=[TARGET])]
    told = fired(trigger(), FakeCluster((thing(), drained)), monkeypatch)
    assert (told["error"], told["taken"]) == ("", "node 1 (the pod mlpipe-train-1): EvictionByEvictionAPI: evicting")


def test_a_pod_that_somebody_deleted_is_told_though_it_is_gone_by_then(monkeypatch):
    looks = (thing(), [node(0, RUNS), node(1, RUNS, deleted=5)]), (thing("Job", "Failed"), [])
    error = failure.load(fired(trigger(), FakeCluster(*looks), monkeypatch)["error"])
    assert isinstance(error, CommandFailedError)
    assert "node 1 (the pod mlpipe-train-1) of 2 was deleted while the step ran" in str(error)


def test_pods_that_a_queue_took_away_are_not_the_reason_why_those_failed_that_were_made_later(monkeypatch):
    both, away = [node(0, RUNS), node(1, RUNS)], [node(0, RUNS, deleted=1), node(1, RUNS, deleted=1)]
    again = [node(0, RUNS), node(1, at(ended("base", 3), 30), phase="Failed")]
    for made in again:
        made["metadata"]["uid"] += "-again"
    looks = [(thing(), both), (thing(suspended=True), away), (thing(), again)]
    told = fired(trigger(), FakeCluster(*looks), monkeypatch)
    assert (told["error"], told["taken"]) == ("", None)


def test_a_job_that_is_gone_is_left_to_who_comes_back(monkeypatch):
    assert fired(trigger(), FakeCluster(None), monkeypatch)["error"] == ""


def test_who_ends_the_task_deletes_the_job_with_its_pods(monkeypatch):
    monkeypatch.setattr(nodes_trigger, "CustomObjectsApi", lambda connection: connection)
    made, cluster = trigger(), FakeCluster(None)
    made._hook = cluster
    asyncio.run(made.on_kill())
    assert cluster.deleted == [{**PLACE, "name": "mlpipe-train", "propagation_policy": "Background"}]
