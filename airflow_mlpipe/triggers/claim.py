"""Waits for whoever holds the claim of a fingerprint: until it ends, or shows no sign of life any more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.exceptions import StoreError
from airflow_mlpipe.hooks.connections import storage_options
from airflow_mlpipe.store.beat import EXPIRY, Watch
from airflow_mlpipe.store.entries import Log
from airflow_mlpipe.store.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0

_logger = logging.getLogger(__name__)


class ClaimTrigger(BaseTrigger):
    """Fires when the holder of a claim has committed, given up, died, or not shown a sign of life for too long.

    The event is ``{"awaited": [claims], "expired": claim or "", "beat": "..."}``; all waiters for one holder in a
    triggerer look at the store together.

    :param store: the URL of the store.
    :param connection: the Airflow connection that opens it, if one is needed.
    :param fingerprint: what is computed.
    :param awaited: the claims waited for so far; the last one is the holder's.
    :param expiry: seconds without a sign of life after which the holder counts as gone.
    """

    def __init__(
        self, store: str, connection: str | None, fingerprint: str, awaited: list[str], expiry: float = EXPIRY
    ) -> None:
        super().__init__()
        self.store = store
        self.connection = connection
        self.fingerprint = fingerprint
        self.awaited = awaited
        self.expiry = expiry

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is, and its arguments."""
        names = ("store", "connection", "fingerprint", "awaited", "expiry")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire once."""
        key = (self.store, self.connection, self.fingerprint, self.awaited[-1], self.expiry)
        yield TriggerEvent({"awaited": self.awaited, **await _together(key)})


_watches: dict[tuple[Any, ...], tuple[asyncio.Task[Mapping[str, str]], list[None]]] = {}
"""The watches under way in this event loop, each with one item for whoever waits for it."""


async def _together(key: tuple[Any, ...]) -> Mapping[str, str]:
    """Return how a holder ended; whoever asks for the same meanwhile gets the same answer."""
    if key not in _watches:
        task = asyncio.create_task(_ended(*key))
        task.add_done_callback(lambda _: _watches.pop(key, None))
        _watches[key] = (task, [])
    task, waiting = _watches[key]
    waiting.append(None)
    try:
        return await asyncio.shield(task)
    finally:
        waiting.pop()
        if not waiting:
            task.cancel()


async def _ended(url: str, connection: str | None, fingerprint: str, claim: str, expiry: float) -> Mapping[str, str]:
    pause = _FIRST_PAUSE
    watch: Watch | None = None
    while True:
        try:
            store = await asyncio.to_thread(open_store, url, connection)
            log = await asyncio.to_thread(Log.read, store, fingerprint)
            holder = log.holder
            if holder is None or holder.id != claim or holder.owner.is_dead():
                return {"expired": "", "beat": ""}
            if watch is None:
                watch = await asyncio.to_thread(Watch, store, holder, expiry)
            if await asyncio.to_thread(watch.expired):
                return {"expired": claim, "beat": watch.beat.hex()}
        except StoreError as error:  # that says nothing about the holder
            _logger.warning(
                "whether %s is still computed cannot be seen, and is looked at again: %s", fingerprint, error
            )
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def open_store(url: str, connection: str | None) -> Store:
    """Open a store with the connection that Airflow keeps, which is asked through the triggerer; this blocks."""
    return Store.open(url, storage_options(connection) if connection else None)
