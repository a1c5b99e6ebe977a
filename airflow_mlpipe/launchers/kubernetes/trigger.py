"""Waits for a pod in the triggerer: until its command runs, and then, by the provider's trigger, until that has ended."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import CoreV1Api
from kubernetes_asyncio.watch import Watch

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes import endings
from airflow_mlpipe.launchers.kubernetes.cluster import PATIENCE, plain
from airflow_mlpipe.launchers.kubernetes.starting import Start
from airflow_mlpipe.runtime.pod import failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_INTERVAL = 2.0
_GONE = 404


class PodTrigger(BaseTrigger):
    """Fires once: ``{"error": ..., "since": ..., "attempt": ..., "taken": ...}``.

    ``error`` is what kept the pod from starting, as `failure.dump` writes it, or empty. ``since`` is when its log was
    read last, in seconds since 1970, or None. ``taken`` is what took the pod away, in words, or None.

    :param patience: seconds after which a pod is given up that does not start.
    :param attempt: for which time it was begun; it is told again.
    :param arguments: those of the provider's trigger, as it serializes them.
    """

    def __init__(self, patience: float, attempt: int, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.patience = patience
        self.attempt = attempt
        self.arguments = arguments
        self._inner = KubernetesPodTrigger(**arguments)
        self._last: dict[str, Any] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is, and its arguments."""
        names = ("patience", "attempt", "arguments")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire."""
        self._inner.task_instance = self.task_instance
        told: dict[str, Any] = {"error": "", "since": None, "attempt": self.attempt, "taken": None}
        watching = asyncio.create_task(self._watch())
        try:
            if await self._started():
                async for event in self._inner.run():
                    since = event.payload.get("last_log_time")
                    told["since"] = since.timestamp() if since else None
        except StepError as error:
            told["error"] = failure.dump(error)
        finally:
            watching.cancel()
        if self._last is not None:
            told["taken"] = endings.disruption(self._last)
        yield TriggerEvent(told)

    async def on_kill(self) -> None:
        """Delete the pod, if somebody ended the task."""
        await self._inner.on_kill()

    async def cleanup(self) -> None:
        """Let the provider's trigger clean up."""
        await self._inner.cleanup()

    async def _watch(self) -> None:
        """Keep what the pod looked like last: one that is drained is gone before anybody can ask why."""
        only = f"metadata.name={self._inner.pod_name}"
        while True:
            with suppress(Exception):  # of two libraries, and of the network
                async with self._inner.hook.get_conn() as connection:
                    look = CoreV1Api(connection).list_namespaced_pod
                    looks = Watch().stream(look, self._inner.pod_namespace, field_selector=only, timeout_seconds=50)
                    async for event in looks:
                        self._last = event["raw_object"]
            await asyncio.sleep(_INTERVAL)

    async def _started(self) -> bool:
        """Wait until the command runs or has run; return False if the pod is gone."""
        start = Start(self.patience, self.log.info)
        name, namespace = self._inner.pod_name, self._inner.pod_namespace
        answered = time.monotonic()
        while True:
            try:
                pod = await self._inner.hook.get_pod(name=name, namespace=namespace)
            except Exception as error:  # noqa: BLE001 -- of two libraries, and of the network
                if getattr(error, "status", None) == _GONE:
                    return False
                self.log.warning("the pod %s cannot be seen, and is looked at again: %s", name, error)
                if time.monotonic() - answered > PATIENCE:
                    return False
            else:
                answered = time.monotonic()
                seen = plain(pod)
                if start.look(seen, await self._events(seen["metadata"].get("uid")), answered):
                    return True
            await asyncio.sleep(_INTERVAL)

    async def _events(self, uid: str | None) -> list[dict[str, Any]]:
        """Return what happened to the pod, not to earlier ones of its name; nothing where one may not know that."""
        with suppress(Exception):
            found = await self._inner.hook.get_pod_events(self._inner.pod_name, self._inner.pod_namespace)
            return [event for event in map(plain, found.items) if event["involvedObject"].get("uid") == uid]
        return []
