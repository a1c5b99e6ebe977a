"""Waits in the triggerer for the nodes of a step: until all of them run, and then until they have ended."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import CoreV1Api, CustomObjectsApi

from airflow_mlpipe.exceptions import StepError, StepStoppedError
from airflow_mlpipe.launchers.kubernetes import fates
from airflow_mlpipe.launchers.kubernetes.cluster import PATIENCE, plain
from airflow_mlpipe.launchers.kubernetes.gathering import Gathering, is_over, is_waiting
from airflow_mlpipe.launchers.kubernetes.members import called, first_of, selector
from airflow_mlpipe.launchers.kubernetes.pod import BASE
from airflow_mlpipe.launchers.kubernetes.sightings import Sightings
from airflow_mlpipe.launchers.kubernetes.state import running
from airflow_mlpipe.runtime.pod import failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

Json = dict[str, Any]

_INTERVAL = 2.0
_GONE = 404
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?\S* ?")


class NodesTrigger(BaseTrigger):
    """Fires once, with what `airflow_mlpipe.launchers.kubernetes.trigger.PodTrigger` tells.

    :param patience: seconds after which the nodes are given up while one of them does not start.
    :param attempt: for which time they were begun; it is told again.
    :param nodes: how many there shall be.
    :param made: the name of the Job or MPIJob.
    :param place: where the API of the cluster has it: ``group``, ``version``, ``namespace`` and ``plural``.
    :param interval: how often what node 0 prints is shown, in seconds; None for never.
    :param shown: when that was done last, in seconds since 1970.
    :param arguments: those of the provider's trigger for a pod: they say how the cluster is reached.
    """

    def __init__(  # noqa: PLR0913 -- a trigger holds JSON
        self,
        *,
        patience: float,
        attempt: int,
        nodes: int,
        made: str,
        place: Mapping[str, str],
        interval: float | None,
        shown: float | None,
        arguments: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.patience = patience
        self.attempt = attempt
        self.nodes = nodes
        self.made = made
        self.place = place
        self.interval = interval
        self.shown = shown
        self.arguments = arguments
        self._hook = KubernetesPodTrigger(**arguments).hook
        self._seen = Sightings()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is, and its arguments."""
        names = ("patience", "attempt", "nodes", "made", "place", "interval", "shown", "arguments")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire."""
        error = ""
        try:
            await self._wait()
        except StepError as refused:
            error = failure.dump(refused)
        pods = self._seen.pods()
        taken = fates.disruption(pods)
        if not error and not taken and (gone := fates.lost(pods)):
            words = f"{called(gone)} of {self.nodes} was deleted while the step ran; nothing of it is kept"
            error = failure.dump(StepStoppedError(words))
        yield TriggerEvent({"error": error, "since": self.shown, "attempt": self.attempt, "taken": taken})

    async def on_kill(self) -> None:
        """Delete the Job or MPIJob with its pods, if somebody ended the task."""
        with suppress(Exception):  # there is none, or nobody answers: then whoever comes next looks after it
            async with self._hook.get_conn() as connection:
                api = CustomObjectsApi(connection)
                await api.delete_namespaced_custom_object(**self.place, name=self.made, propagation_policy="Background")

    async def _wait(self) -> None:
        """Wait until nothing more will come of the pods.

        :raises StepError: if one of them cannot start, or not in time.
        """
        gathering = Gathering(self.nodes, self.patience, self.log.info)
        answered = time.monotonic()
        while True:
            try:
                thing, pods = await self._look()
                events = {} if gathering.is_complete() else await self._events(thing, gathering.asks_for(pods))
            except Exception as error:  # noqa: BLE001 -- of two libraries, and of the network
                if getattr(error, "status", None) == _GONE:
                    return
                self.log.warning("the pods of %s cannot be seen, and are looked at again: %s", self.made, error)
                if time.monotonic() - answered > PATIENCE:
                    return
            else:
                answered = time.monotonic()
                self._seen.take(pods)
                if is_over(thing, pods):
                    return
                if is_waiting(thing):
                    self._seen.forget()
                gathering.look(thing, pods, events, answered)
                await self._show(pods)
            await asyncio.sleep(_INTERVAL)

    async def _look(self) -> tuple[Json, list[Json]]:
        async with self._hook.get_conn() as connection:
            thing = await CustomObjectsApi(connection).get_namespaced_custom_object(**self.place, name=self.made)
            found = await CoreV1Api(connection).list_namespaced_pod(
                self.place["namespace"], label_selector=selector(self.made, self.attempt)
            )
            return thing, [plain(pod) for pod in found.items]

    async def _events(self, thing: Json, pods: Sequence[Mapping[str, Any]]) -> dict[str, list[Json]]:
        """Return what happened to the Job and to some of its pods, by their uid; nothing where one may not know that."""
        told: dict[str, list[Json]] = {}
        with suppress(Exception):
            async with self._hook.get_conn() as connection:
                for given in (thing["metadata"], *(pod["metadata"] for pod in pods)):
                    only = f"involvedObject.name={given['name']},involvedObject.uid={given['uid']}"
                    found = await CoreV1Api(connection).list_namespaced_event(
                        self.place["namespace"], field_selector=only
                    )
                    told[given["uid"]] = [plain(event) for event in found.items]
        return told

    async def _show(self, pods: Sequence[Json]) -> None:
        """Show what node 0 has printed since the last time."""
        first = first_of(pods)
        now = time.time()
        if self.interval is None or first is None or not running(first, BASE):
            return
        if self.shown is not None and now - self.shown < self.interval:
            return
        since = None if self.shown is None else int(now - self.shown) + 2
        with suppress(Exception):
            lines = await self._hook.read_logs(
                first["metadata"]["name"], self.place["namespace"], container_name=BASE, since_seconds=since
            )
            for line in lines:
                moment, text = _moment(line)
                if moment is not None and int(self.shown or 0) <= moment < int(now):
                    self.log.info("%s", text)
            self.shown = now


def _moment(line: str) -> tuple[float | None, str]:
    """Return when a line was printed, in seconds since 1970, and the line."""
    match = _STAMP.match(line)
    if match is None:
        return None, line
    return datetime.fromisoformat(f"{match[1]}.{(match[2] or '0').ljust(6, '0')}+00:00").timestamp(), line[
        match.end() :
    ]
