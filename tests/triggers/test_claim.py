from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from airflow_mlpipe.store import log
from airflow_mlpipe.store.beat import Beat
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers import claim as module
from airflow_mlpipe.triggers.claim import ClaimTrigger

FP = "ab" * 32


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.02)
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def held(store):
    return log.claim(store, FP, Owner.here("p", "r1", "train"))


def trigger(store, claim, **arguments):
    return ClaimTrigger(store.url, None, FP, ["before", claim.id], **arguments)


async def fired(trigger):
    return (await anext(trigger.run())).payload


def end_soon(action):
    async def later():
        await asyncio.sleep(0.2)
        await asyncio.to_thread(action)

    return later()


@pytest.mark.parametrize("ending", ["commit", "release", "error"])
def test_it_fires_when_the_holder_ends(store, held, ending):
    def end():
        if ending == "commit":
            log.commit(store, held, {"body": 1})
        else:
            log.release(store, held, None if ending == "release" else "exit code 1")

    async def both():
        return await asyncio.gather(fired(trigger(store, held)), end_soon(end))

    payload, _ = asyncio.run(both())
    assert payload == {"awaited": ["before", held.id], "expired": "", "beat": ""}


def test_it_waits_while_the_holder_shows_that_it_lives(store, held):
    async def wait():
        with Beat(store, held, interval=0.05), pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(fired(trigger(store, held, expiry=0.3)), 1)

    asyncio.run(wait())


def test_it_fires_when_the_beat_stands_still_and_tells_which_one_it_saw(store, held):
    store.write(f"beat/{FP}/{held.id}", b"\x01\x02")
    payload = asyncio.run(fired(trigger(store, held, expiry=0.1)))
    assert payload == {"awaited": ["before", held.id], "expired": held.id, "beat": "0102"}


def test_it_fires_when_the_process_of_the_holder_is_gone(store):
    me = Owner.here("p", "r1", "train")
    gone = replace(me, process=me.process.replace(me.process.split("/")[0], "4194304", 1))
    claim = log.claim(store, FP, gone)
    assert asyncio.run(fired(trigger(store, claim)))["expired"] == ""


def test_it_fires_when_somebody_else_holds_the_claim_by_now(store, held):
    log.release(store, held)
    assert log.claim(store, FP, Owner.here("p", "r2", "train"))
    assert asyncio.run(fired(trigger(store, held)))["awaited"][-1] == held.id


def test_an_unreachable_store_says_nothing_about_the_holder(store, held, monkeypatch, caplog):
    reads = []

    def read(*arguments):
        reads.append(arguments)
        if len(reads) < 3:
            raise log.StoreError("no route")  # noqa: EM101, TRY003 -- as a store says it
        return log.Log.read(*arguments)

    monkeypatch.setattr(module, "Log", type("Broken", (), {"read": staticmethod(read)}))
    log.release(store, held)
    assert asyncio.run(fired(trigger(store, held)))["expired"] == ""
    assert "no route" in caplog.text


def test_many_waiters_for_one_holder_look_together(store, held, monkeypatch):
    reads = []

    def read(*arguments):
        reads.append(arguments)
        return log.Log.read(*arguments)

    monkeypatch.setattr(module, "Log", type("Counted", (), {"read": staticmethod(read)}))

    async def all_of_them():
        waiters = [fired(trigger(store, held)) for _ in range(100)]
        return await asyncio.gather(*waiters, end_soon(lambda: log.release(store, held)))

    payloads = asyncio.run(all_of_them())[:-1]
    assert payloads == [{"awaited": ["before", held.id], "expired": "", "beat": ""}] * 100
    assert len(reads) < 60
    assert not module._watches


def test_one_waiter_that_leaves_does_not_end_the_wait_of_others_and_the_last_ends_it(store, held):
    async def leave():
        first, second = (asyncio.create_task(fired(trigger(store, held))) for _ in range(2))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0.1)
        assert not second.done()
        assert len(module._watches) == 1
        second.cancel()
        await asyncio.sleep(0.1)
        assert not module._watches

    asyncio.run(leave())


def test_it_comes_back_from_what_airflow_keeps_of_it(store, held):
    path, arguments = trigger(store, held).serialize()
    assert path == "airflow_mlpipe.triggers.claim.ClaimTrigger"
    assert ClaimTrigger(**arguments).serialize() == (path, arguments)
