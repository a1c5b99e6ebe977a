"""Waits, in place of a worker, for what a launcher has launched, and shows meanwhile that its claim is held."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlpipe.exceptions import StoreError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.beat import PATIENCE, give
from airflow_mlpipe.store.entries import Claim, Log
from airflow_mlpipe.store.owner import Owner
from airflow_mlpipe.triggers.claim import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from airflow_mlpipe.store.store import Store

T = TypeVar("T")

INTERVAL = 60.0
"""Seconds between two signs of life. Each asks for patience: the triggerer may die, and the task may queue for a slot."""

ASKING = 10.0
"""Seconds that Airflow has to say whether a task was ended; `on_kill` has thirty."""

_THREADS = 8
"""Of our own: a store that hangs must not take the threads that other triggers need."""

_logger = logging.getLogger(__name__)


class LaunchTrigger(BaseTrigger):
    """Runs the trigger of a provider's operator, and fires with what that tells: ``{"launch": {...}, "event": ...}``.

    It fires with the event None when the claim is lost, which the task has to look after.

    :param store: the URL of the store.
    :param connection: the Airflow connection that opens it, if one is needed.
    :param launch: what the task needs to go on: at least the ``fingerprint`` and the ``claim`` (empty where none is
        held) of what was launched.
    :param path: where the class of the inner trigger is.
    :param arguments: its arguments, as it serializes them.
    """

    def __init__(
        self, store: str, connection: str | None, launch: Mapping[str, str], path: str, arguments: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.store = store
        self.connection = connection
        self.launch = launch
        self.path = path
        self.arguments = arguments
        self._inner: BaseTrigger | None = None
        self._fired = False
        self._last = b""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where this class is, and its arguments."""
        names = ("store", "connection", "launch", "path", "arguments")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire once."""
        inner = await _in_thread(self._made)  # a provider takes long to import
        waiting = [asyncio.create_task(_first(inner))]
        if self.launch["claim"]:
            waiting.append(asyncio.create_task(self._hold()))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            told = waiting[0].result() if waiting[0].done() else waiting[1].result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if self.launch["claim"]:
            await _in_thread(self._beat)  # the task may queue for a slot from now on
        self._fired = True
        yield TriggerEvent({"launch": dict(self.launch), "event": told})

    async def on_kill(self) -> None:
        """Give the claim back, and let the inner trigger end what was launched, if somebody ended the task.

        Airflow calls this also where another triggerer has taken the trigger over. Where a later try or another task
        holds the claim by now, it may go on with what was launched, and looks after it.

        Airflow cancels the trigger again in each round of its loop, this method too: what it has begun is brought to its end.
        """
        ending = asyncio.ensure_future(self._end())
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(ending)
        ending.result()

    async def _end(self) -> None:
        if self._fired or self._inner is None or not await self._was_ended():
            return
        if self.launch["claim"] and not await _in_thread(self._give_back):
            return
        await self._inner.on_kill()

    async def cleanup(self) -> None:
        """Let the inner trigger clean up."""
        if self._inner is not None:
            await self._inner.cleanup()

    def _made(self) -> BaseTrigger:
        module, _, name = self.path.rpartition(".")
        inner: BaseTrigger = getattr(import_module(module), name)(**self.arguments)
        inner.task_instance = self.task_instance
        for name in ("trigger_id", "triggerer_job_id", "timeout_after"):
            if hasattr(self, name):
                setattr(inner, name, getattr(self, name))
        self._inner = inner
        return inner

    @property
    def _claim(self) -> Claim:
        return Claim(self.launch["fingerprint"], self.launch["claim"], 0, Owner.here("", "", ""))

    async def _hold(self) -> None:
        """Show that the claim is held; return when it is not any more."""
        while True:
            if not await _in_thread(self._beat):
                return
            await asyncio.sleep(INTERVAL)

    def _beat(self) -> bool:
        """Give a sign of life if the claim is held; return whether it is, as far as one can see."""
        try:
            store = open_store(self.store, self.connection)
            if not self._is_held(store):
                return False
            self._last = give(store, self._claim, PATIENCE)
        except StoreError as error:
            _logger.warning("no sign of life could be given for a step, the next one is due soon: %s", error)
        return True

    def _is_held(self, store: Store) -> bool:
        holder = Log.read(store, self.launch["fingerprint"]).holder
        return holder is not None and holder.id == self.launch["claim"]

    def _others_beat(self) -> bool:
        """Say whether another triggerer shows that the claim is held."""
        try:
            store = open_store(self.store, self.connection)
            beat = store.read(layout.beat(self.launch["fingerprint"], self.launch["claim"] or "none"))
        except (StoreError, FileNotFoundError):
            return False
        return bool(self._last) and beat != self._last

    def _give_back(self) -> bool:
        """Release the claim; return whether it was held, so that what was launched is nobody else's."""
        try:
            store = open_store(self.store, self.connection)
            if not self._is_held(store):
                return False
            fingerprint_log.release(store, self._claim)
            store.remove(layout.beat(self.launch["fingerprint"], self.launch["claim"]))
        except StoreError as error:
            _logger.warning("the claim of a step that was ended could not be given back: %s", error)
        return True

    async def _was_ended(self) -> bool:
        """Say whether the task does not wait any more; where Airflow does not say, whether nobody else beats for it.

        The first such question to a triggerer costs it seconds, on a busy machine more than `on_kill` has.
        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 -- slow, and rarely needed

        task: Any = self.task_instance
        if task is None:
            return True
        ask = partial(
            RuntimeTaskInstance.get_task_states,
            dag_id=task.dag_id,
            task_ids=[task.task_id],
            run_ids=[task.run_id],
            map_index=task.map_index,
        )
        try:
            states = (await asyncio.wait_for(_in_thread(ask), ASKING)).get(task.run_id, {})
        except Exception:
            _logger.warning("the state of %s cannot be seen", task.task_id, exc_info=True)
            return not await _in_thread(self._others_beat)
        return not any(name.split("[")[0] == task.task_id and state == "deferred" for name, state in states.items())


async def _first(trigger: BaseTrigger) -> Any:
    events = trigger.run()
    try:
        async for event in events:
            return event.payload
    finally:
        with suppress(AttributeError):
            await events.aclose()
    message = "the trigger ended without an event"
    raise RuntimeError(message)


async def _in_thread(action: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_pool(), action)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="launches")
