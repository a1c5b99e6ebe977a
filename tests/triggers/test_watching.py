from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from airflow_mlpipe.exceptions import DataError, RecordFormatError, StoreUnreachableError
from airflow_mlpipe.resolving.waiting import Confirmed, Waiting, Wanted
from airflow_mlpipe.triggers import watching as module
from airflow_mlpipe.triggers.watching import watching

VAIN = DataError("waits in vain")
NO_ROUTE = StoreUnreachableError("no route")
FOUND = Confirmed(None, {}, {"run": "r1"})
SITE = object()


@dataclass
class Source:
    """Has what is waited for from some look on; fails in the looks before that are given an error."""

    looks: int = 3
    errors: dict[int, Exception] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    judged: list[Waiting] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def read(self, site, since):
        assert site is SITE
        self.threads.add(threading.get_ident())
        self.reads.append(since)
        if error := self.errors.get(len(self.reads)):
            raise error

    def judge(self, waiting):
        self.judged.append(waiting)
        if waiting.wanted.step == "wrong":
            raise VAIN
        return FOUND if len(self.reads) >= self.looks else None


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(module, "SHORTEST", 0.01)
    monkeypatch.setattr(module, "GATHERING", 0.01)


def waiting(step="train", **given):
    return Waiting(Wanted("p", step), **given)


async def wait(source, who, *, key="p", interval=0.02, site=lambda: SITE):
    """Return all news of one who waits, up to what ends the wait."""
    news = []
    async with watching(key, lambda: source, site, who, interval) as queue:
        while not news or isinstance(news[-1], str):
            news.append(await asyncio.wait_for(queue.get(), 20))
    return news


async def until(true):
    while not true():  # noqa: ASYNC110 -- it happens in a thread
        await asyncio.sleep(0.005)


def all_of(*waits):
    async def gather():
        return await asyncio.gather(*waits)

    return asyncio.run(gather())


def test_however_many_wait_each_look_reads_once():
    source = Source()
    told = all_of(*(wait(source, waiting()) for _ in range(300)))
    assert [news[-1] for news in told] == [FOUND] * 300
    assert len(source.reads) == 3
    assert len({id(who) for who in source.judged}) == 300


def test_the_event_loop_goes_on_while_the_store_is_read():
    may_go_on = threading.Event()

    class Slow(Source):
        def read(self, site, since):
            super().read(site, since)
            assert may_go_on.wait(20)

    source = Slow(looks=1)

    async def both():
        task = asyncio.create_task(wait(source, waiting()))
        await until(lambda: source.reads)
        may_go_on.set()  # which a blocked loop could not
        return await task

    assert asyncio.run(both())[-1] is FOUND
    assert threading.get_ident() not in source.threads


def test_looking_ends_with_the_last_who_waits():
    source = Source(looks=10**9)

    async def leave():
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(watching("p", lambda: source, lambda: SITE, waiting(), 0.01))
            await until(lambda: len(source.reads) >= 3)
        assert not module._watches(asyncio.get_running_loop())
        await asyncio.sleep(0.05)  # a look under way may still end
        reads = len(source.reads)
        await asyncio.sleep(0.1)
        return reads

    assert asyncio.run(leave()) == len(source.reads)


def test_the_most_impatient_says_how_often():
    source = Source(looks=4)
    told = all_of(wait(source, waiting(), interval=1000), wait(source, waiting(), interval=0.01))
    assert [news[-1] for news in told] == [FOUND, FOUND]


def test_who_comes_later_is_told_what_is_known_without_a_look():
    source = Source(looks=1)

    async def late():
        async with watching("p", lambda: source, lambda: SITE, waiting(), 1000) as queue:
            assert await queue.get() is FOUND
            return await wait(source, waiting(), interval=1000)

    assert asyncio.run(late()) == [FOUND]
    assert len(source.reads) == 1


def test_the_earliest_day_that_anybody_needs_is_read():
    source = Source(looks=2)
    all_of(wait(source, waiting(since="2025-02-01")), wait(source, waiting(since="2025-01-01")))
    assert set(source.reads) == {"2025-01-01"}


def test_those_who_wait_for_something_else_are_looked_for_by_themselves():
    one, two = Source(looks=1), Source(looks=1)
    all_of(wait(one, waiting(), key="p"), wait(two, waiting(), key="q"))
    assert (len(one.judged), len(two.judged)) == (1, 1)


def test_a_store_out_of_reach_is_told_once_and_looked_at_again():
    source, opened = Source(looks=5, errors={2: NO_ROUTE, 3: NO_ROUTE}), []
    told = all_of(wait(source, waiting(), site=lambda: opened.append(1) or SITE))[0]
    assert told[-1] is FOUND
    texts = [news for news in told if isinstance(news, str)]
    assert [text.endswith("the last look failed: no route") for text in texts] == [False, True, False]
    assert len(opened) == 3  # opened anew each time, its credentials may be others


def test_a_store_that_cannot_be_opened_is_waited_for():
    attempts = []

    def site():
        attempts.append(1)
        if len(attempts) < 3:
            raise NO_ROUTE
        return SITE

    source = Source(looks=1)
    told = all_of(wait(source, waiting(), site=site))[0]
    assert told[0].endswith("the last look failed: no route")
    assert told[-1] is FOUND


def test_a_record_out_of_reach_is_not_tried_for_everybody_in_one_look():
    class Broken(Source):
        def judge(self, who):
            self.judged.append(who)
            if len(self.reads) == 1:
                raise NO_ROUTE
            return FOUND

    source = Broken()
    told = all_of(*(wait(source, waiting()) for _ in range(50)))
    assert [news[-1] for news in told] == [FOUND] * 50
    assert len(source.judged) == 51


def test_who_waits_in_vain_is_told_so_and_nobody_else():
    source = Source()
    wrong, right = all_of(wait(source, waiting("wrong")), wait(source, waiting()))
    assert wrong[-1] is VAIN
    assert right[-1] is FOUND


@pytest.mark.parametrize("error", [RecordFormatError("newer"), ZeroDivisionError("a bug")])
def test_what_cannot_be_read_at_all_ends_the_wait_of_all_and_the_next_is_looked_for_anew(error):
    source = Source(looks=1, errors={1: error})

    async def twice():
        told = await asyncio.gather(wait(source, waiting()), wait(source, waiting()))
        return [news[-1] for news in told], (await wait(source, waiting()))[-1]

    assert asyncio.run(twice()) == ([error, error], FOUND)


def test_each_event_loop_looks_by_itself_and_leaves_nothing():
    for _ in range(2):
        assert all_of(wait(Source(), waiting()))[0][-1] is FOUND
    assert not any(module._of_loops.values())
