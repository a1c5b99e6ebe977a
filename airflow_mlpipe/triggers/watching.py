"""One look at a store for all who wait for the same: the triggers of one process share it.

A look takes place in a thread, and is due when the most impatient of those who wait wants one; what it costs the store
does not depend on how many they are.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

from airflow_mlpipe.exceptions import MlpipeError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

    from airflow_mlpipe.resolving.confirmed import Source
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.resolving.waiting import Confirmed, Waiting

News: TypeAlias = "Confirmed | Exception | str"
"""What was waited for; or why waiting is in vain; or what has changed meanwhile, in words."""

SHORTEST = 1.0
"""Seconds between two looks, whatever somebody asks for."""

GATHERING = 0.2
"""Seconds for which others may join before a look: after a start all come at once."""

_THREADS = 8
"""Of our own: a store that hangs must not take the threads that other triggers need."""


@dataclass(eq=False)
class Waiter:
    """One of those who wait; what concerns it is put into ``news``."""

    waiting: Waiting
    interval: float
    news: asyncio.Queue[News] = field(default_factory=asyncio.Queue)
    told: str = ""


@asynccontextmanager
async def watching(
    key: Hashable, source: Callable[[], Source], open_site: Callable[[], Site], waiting: Waiting, interval: float
) -> AsyncIterator[asyncio.Queue[News]]:
    """Look for somebody who waits, together with all who give the same key, while a block runs; give its news.

    :param source: makes what is read, for the first of them.
    :param interval: seconds between two looks.
    """
    watches = _watches(asyncio.get_running_loop())
    watch = watches.setdefault(key, Watch(source(), open_site)) if key not in watches else watches[key]
    waiter = Waiter(waiting, max(interval, SHORTEST))
    watch.join(waiter)
    try:
        yield waiter.news
    finally:
        if watch.leave(waiter) and watches.get(key) is watch:
            del watches[key]


class Watch:
    """Looks at one source for all its waiters."""

    def __init__(self, source: Source, open_site: Callable[[], Site]) -> None:
        self._source = source
        self._open_site = open_site
        self._site: Site | None = None
        self._waiters: dict[Waiter, None] = {}
        self._joined = asyncio.Event()
        self._task: asyncio.Future[None] | None = None
        self._trouble = "the store was not read yet"

    def join(self, waiter: Waiter) -> None:
        """Look for one more."""
        self._waiters[waiter] = None
        self._joined.set()
        if self._task is None or self._task.done():
            # Of no trigger's context, so that nothing here is logged as if it were the first one's.
            self._task = contextvars.Context().run(asyncio.ensure_future, self._run())

    def leave(self, waiter: Waiter) -> bool:
        """Look for one less; return whether nobody is left, which ends it."""
        self._waiters.pop(waiter, None)
        if not self._waiters and self._task is not None:
            self._task.cancel()
        return not self._waiters

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        looked = clock() - max(waiter.interval for waiter in self._waiters)
        while self._waiters:
            due = looked + min(waiter.interval for waiter in self._waiters)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._joined.wait(), max(GATHERING, due - clock()))
                await asyncio.sleep(GATHERING)
            self._joined.clear()
            is_due = clock() >= due
            try:
                await self._tell(read=is_due)
            except Exception as error:  # noqa: BLE001 -- nobody may wait for what has ended
                for waiter in self._waiters:
                    waiter.news.put_nowait(error)
                return
            looked = clock() if is_due else looked

    async def _tell(self, *, read: bool) -> None:
        look = partial(self._look, list(self._waiters), read=read)
        for waiter, news in await asyncio.get_running_loop().run_in_executor(_pool(), look):
            waiter.news.put_nowait(news)

    def _look(self, waiters: list[Waiter], *, read: bool) -> list[tuple[Waiter, News]]:
        """Return what there is to tell. This runs in a thread, one look at a time."""
        if read and waiters:
            self._attempt(lambda: self._read(min(waiter.waiting.since for waiter in waiters)))
        told = ((waiter, self._news(waiter)) for waiter in waiters)
        return [(waiter, news) for waiter, news in told if news is not None]

    def _read(self, since: str) -> None:
        if self._site is None:
            self._site = self._open_site()
        self._source.read(self._site, since)
        self._trouble = ""

    def _news(self, waiter: Waiter) -> News | None:
        try:
            if not self._trouble and (found := self._attempt(lambda: self._source.judge(waiter.waiting))):
                return found
        except MlpipeError as error:
            return error
        waiter.waiting.trouble = self._trouble
        message = waiter.waiting.message()
        if message == waiter.told:
            return None
        waiter.told = message
        return message

    def _attempt(self, action: Callable[[], Confirmed | None]) -> Confirmed | None:
        """Return what an action returns; None if the store is out of reach, so that nobody tries in vain before the next look."""
        try:
            return action()
        except StoreUnreachableError as error:
            self._site, self._trouble = None, f"the last look failed: {error}"
            return None


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="mlpipe-watch")


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Watch]] = WeakKeyDictionary()


def _watches(loop: asyncio.AbstractEventLoop) -> dict[Hashable, Watch]:
    return _of_loops.setdefault(loop, {})
