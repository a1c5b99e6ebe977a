"""Waits for the output of a step, for `StepOutputSensor`."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.exceptions import DataError, StoreUnreachableError
from airflow_mlpipe.hooks.connections import storage_options
from airflow_mlpipe.resolving.confirmed import source_of
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.resolving.waiting import Confirmed, Waiting, Wanted
from airflow_mlpipe.store.attempts import without_password
from airflow_mlpipe.store.digests import StatIndex
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers.watching import watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airflow_mlpipe.triggers.watching import News


class StepOutputTrigger(BaseTrigger):
    """Fires once: when the output is there, when waiting is in vain, or when the time is up.

    The event is ``{"status": "found" | "failed" | "timeout", "confirmed": {...}, "message": "...", "until": "...",
    "rejected": [...]}``.

    :param place: the ``store`` by URL, the ``connection`` that opens it, and the connections of ``datastores`` by name.
        No secrets: Airflow is asked for the connections here.
    :param wanted: what is waited for, as `Wanted.to_json` returns it.
    :param seen: what the worker saw: ``since``, ``news``, ``checked`` and ``rejected`` of `Waiting`.
    :param interval: seconds between two looks at the store.
    :param until: when the time is up, as ISO 8601.
    :param pause: seconds before the first look: what the worker could not see is not handed back to it at once.
    """

    def __init__(  # noqa: PLR0913 -- what a wait consists of
        self,
        place: Mapping[str, Any],
        wanted: Mapping[str, Any],
        seen: Mapping[str, Any],
        interval: float,
        until: str,
        pause: float = 0.0,
    ) -> None:
        super().__init__()
        self.place = place
        self.wanted = wanted
        self.seen = seen
        self.interval = interval
        self.until = until
        self.pause = pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is, and its arguments."""
        names = ("place", "wanted", "seen", "interval", "until", "pause")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire once."""
        wanted = Wanted.from_json(self.wanted)
        waiting = Waiting(wanted, **{**self.seen, "rejected": frozenset(self.seen["rejected"])})
        self.log.info(
            "%s looks at %s every %s seconds, together with whoever waits for the same",
            socket.gethostname(),
            self.place["store"],
            self.interval,
        )
        await asyncio.sleep(self.pause)
        key = json.dumps([self.place, wanted.pipeline, wanted.fingerprint], sort_keys=True)
        source, site = partial(source_of, wanted), partial(_open, self.place)
        async with watching(key, source, site, waiting, self.interval) as queue:
            answer = await self._answer(queue)
        yield TriggerEvent({**self._event(answer, waiting), "until": self.until, "rejected": self.seen["rejected"]})

    async def _answer(self, queue: asyncio.Queue[News]) -> Confirmed | Exception | None:
        """Return what ends the wait, None if time does; until then say what has changed."""
        while True:
            left = (datetime.fromisoformat(self.until) - datetime.now(timezone.utc)).total_seconds()
            try:
                news = await asyncio.wait_for(queue.get(), max(left, 0.001))
            except asyncio.TimeoutError:
                return None
            if not isinstance(news, str):
                return news
            self.log.info("%s", news)

    def _event(self, answer: Confirmed | Exception | None, waiting: Waiting) -> dict[str, Any]:
        match answer:
            case None:
                return {"status": "timeout", "message": waiting.message(), "confirmed": None}
            case Confirmed():
                return {"status": "found", "message": "", "confirmed": answer.to_json()}
            case _:
                return {"status": "failed", "message": str(answer) or repr(answer), "confirmed": None}


def place_of(site: Site) -> dict[str, Any]:
    """Return what a trigger has to know to open the same store.

    :raises DataError: if that would be a secret.
    """
    if without_password(site.store.url) != site.store.url:
        message = (
            f"the URL of the store, {without_password(site.store.url)}, holds a secret, which the triggerer would be "
            "handed openly: keep it in an Airflow connection and name that in the workspace, or give deferrable=False"
        )
        raise DataError(message)
    datastores = {name: datastore.connection for name, datastore in site.workspace.datastores.items()}
    return {"store": site.store.url, "connection": site.connection, "datastores": datastores}


def _open(place: Mapping[str, Any]) -> Site:
    """Open a store with the connections that Airflow keeps, which is asked through the triggerer; this blocks.

    :raises StoreUnreachableError: if it cannot be opened now, even for want of a connection: the worker had it.
    """
    # Outputs outside the store name a datastore for its connection only; their own URIs say where they are.
    datastores = {name: Datastore(url="memory://", connection=used) for name, used in place["datastores"].items()}
    try:
        options = storage_options(place["connection"]) if place["connection"] else {}
        store = Store.open(place["store"], options)
    except DataError as error:
        raise StoreUnreachableError(str(error)) from error
    return Site(Workspace(datastores=datastores), store, StatIndex.open(), storage_options, place["connection"])
