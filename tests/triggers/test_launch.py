from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from airflow_mlpipe.store import log
from airflow_mlpipe.store.beat import PATIENCE, give, patience_of
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.triggers import launch as module
from airflow_mlpipe.triggers.launch import LaunchTrigger
from tests.triggers.waits import Broken, Never, Soon

FP = "ab" * 32


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.05)
    monkeypatch.setattr(Never, "done", [])
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def held(store):
    return log.claim(store, FP, Owner.here("p", "r1", "train"))


def trigger(store, inner, claim=""):
    launch = {"fingerprint": FP, "claim": claim, "method": "look"}
    return LaunchTrigger(store.url, None, launch, *inner.serialize())


async def fired(trigger):
    return (await anext(trigger.run())).payload


def beat(store, held):
    return store.read_all([f"beat/{FP}/{held.id}"]).get(f"beat/{FP}/{held.id}")


async def different(store, held, before):
    while True:
        if await asyncio.to_thread(beat, store, held) != before:
            return
        await asyncio.sleep(0.01)


def test_it_tells_what_the_inner_trigger_tells_and_what_it_was_about(store, held):
    told = asyncio.run(fired(trigger(store, Soon({"status": "done"}), held.id)))
    assert told == {"launch": {"fingerprint": FP, "claim": held.id, "method": "look"}, "event": {"status": "done"}}


def test_rule_8_it_beats_while_it_waits_and_the_last_beat_asks_for_patience_too(store, held):
    async def wait():
        waiting = asyncio.create_task(fired(trigger(store, Never(), held.id)))
        for _ in range(4):
            await asyncio.wait_for(different(store, held, beat(store, held)), 10)
        waiting.cancel()

    asyncio.run(wait())
    assert patience_of(beat(store, held)) == PATIENCE
    asyncio.run(fired(trigger(store, Soon(1), held.id)))
    assert patience_of(beat(store, held)) == PATIENCE


def test_rule_8_it_fires_when_the_claim_is_lost(store, held):
    log.take_over(store, FP, held, Owner.here("p", "r2", "train"))
    assert asyncio.run(fired(trigger(store, Never(), held.id)))["event"] is None
    assert not store.exists(f"beat/{FP}/{held.id}")


def test_a_store_that_is_away_for_a_while_ends_no_wait(store, held, monkeypatch, caplog):
    tries = []

    def away(*_):
        tries.append(1)
        raise log.StoreError("no route")  # noqa: EM101, TRY003 -- as a store says it

    monkeypatch.setattr(module, "open_store", away)
    assert asyncio.run(fired(trigger(store, Soon(1), held.id)))["event"] == 1
    assert tries
    assert "no route" in caplog.text


def test_without_a_claim_it_only_waits(store):
    assert asyncio.run(fired(trigger(store, Soon(1))))["event"] == 1
    assert store.names("beat") == []


def test_an_error_of_the_inner_trigger_is_its_own(store, held):
    with pytest.raises(RuntimeError, match="no such cluster"):
        asyncio.run(fired(trigger(store, Broken(), held.id)))


async def killed(trigger):
    """Begin to wait, then be told that the task was ended."""
    waiting = asyncio.create_task(fired(trigger))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await trigger.on_kill()
    await trigger.cleanup()


def test_who_ends_the_task_ends_what_was_launched_and_frees_the_claim(store, held):
    asyncio.run(killed(trigger(store, Never(), held.id)))
    assert Never.done == ["killed", "cleaned up"]
    found = log.Log.read(store, FP)
    assert (found.holder, found.failure(held.id)) == (None, None)
    assert store.names(f"beat/{FP}") == []


def test_what_was_begun_is_brought_to_its_end_though_airflow_cancels_it_again_and_again(store, held):
    class Slow(Never):
        async def on_kill(self):
            await asyncio.sleep(0.3)
            await super().on_kill()

    async def cancelled():
        waits = trigger(store, Never(), held.id)
        waits._inner = Slow()
        ending = asyncio.create_task(waits.on_kill())
        for _ in range(4):
            await asyncio.sleep(0.05)
            ending.cancel()
        await ending

    asyncio.run(cancelled())
    assert Never.done == ["killed"]
    assert log.Log.read(store, FP).holder is None


def test_what_others_have_taken_over_is_not_ended_with_the_task(store, held):
    waits = trigger(store, Never(), held.id)
    waits._made()
    second = log.take_over(store, FP, held, Owner.here("p", "r2", "train"))
    asyncio.run(waits.on_kill())
    assert Never.done == []
    assert log.Log.read(store, FP).holder == second


@pytest.mark.parametrize(("state", "done"), [("deferred", []), ("failed", ["killed"]), (None, ["killed"])])
def test_only_a_task_that_does_not_wait_any_more_was_ended(store, held, monkeypatch, state, done):
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = staticmethod(lambda **_: {"r1": {"train": state}})
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", states)
    waits = trigger(store, Never(), held.id)
    waits._task_instance = SimpleNamespace(dag_id="p", run_id="r1", task_id="train", map_index=-1)
    waits._inner = Never()
    asyncio.run(waits.on_kill())
    assert Never.done == done


@pytest.mark.parametrize(("others", "done"), [(True, []), (False, ["killed"])])
def test_where_airflow_does_not_say_who_else_beats_tells_whether_the_task_was_ended(
    store, held, monkeypatch, others, done
):
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(module, "ASKING", 0.05)
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: time.sleep(0.5)))
    waits = trigger(store, Never(), held.id)
    waits._task_instance = SimpleNamespace(dag_id="p", run_id="r1", task_id="train", map_index=-1)
    waits._inner = Never()
    assert waits._beat()
    if others:
        give(store, held, PATIENCE)
    asyncio.run(waits.on_kill())
    assert Never.done == done


def test_after_it_has_fired_nothing_is_ended(store, held):
    async def both():
        waits = trigger(store, Soon(1), held.id)
        await fired(waits)
        await waits.on_kill()

    asyncio.run(both())
    assert Never.done == []
    assert log.Log.read(store, FP).holder == held


def test_it_comes_back_from_what_airflow_keeps_of_it(store, held):
    path, arguments = trigger(store, Soon(1), held.id).serialize()
    assert path == "airflow_mlpipe.triggers.launch.LaunchTrigger"
    assert LaunchTrigger(**arguments).serialize() == (path, arguments)
