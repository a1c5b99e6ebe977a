from __future__ import annotations

import time

import pytest

from airflow_mlpipe.exceptions import StoreUnreachableError
from airflow_mlpipe.store import log
from airflow_mlpipe.store.beat import PATIENCE, Beat, Watch, give, patience_of

FP = "be" * 32


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def claim(store):
    return log.claim(store, FP, log.Owner.here("p", "r", "s"))


def test_a_holder_that_beats_is_alive(store, claim):
    clock = Clock()
    watch = Watch(store, claim, expiry=60, clock=clock)
    for _ in range(3):
        with Beat(store, claim):
            clock.now += 59
            assert not watch.expired()


def test_a_beat_goes_on_and_leaves_nothing(store, claim):
    folder = f"beat/{FP}"
    with Beat(store, claim, interval=0.01):
        seen = set()
        end = time.monotonic() + 5
        while len(seen) < 3 and time.monotonic() < end:
            seen.add(store.read(f"{folder}/{claim.id}"))
            time.sleep(0.005)
        assert len(seen) == 3
    assert store.names(folder) == []


def test_the_last_beat_of_a_fingerprint_takes_its_folder_along(local_store):
    folder = local_store.local_root / "beat" / FP
    first, second = (log.Claim(FP, name, 1, log.Owner.here("p", "r", "s")) for name in ("c1", "c2"))
    with Beat(local_store, first):
        with Beat(local_store, second):
            assert len(list(folder.iterdir())) == 2
        assert [path.name for path in folder.iterdir()] == ["c1"]
    assert not folder.exists()


def test_a_beat_that_does_not_change_expires_by_the_own_clock(store, claim):
    clock = Clock()
    store.write(f"beat/{FP}/{claim.id}", b"the last one")
    watch = Watch(store, claim, expiry=60, clock=clock)
    clock.now += 60
    assert not watch.expired()
    clock.now += 0.1
    assert watch.expired()


def test_a_holder_that_never_beat_expires(store, claim):
    clock = Clock()
    watch = Watch(store, claim, expiry=60, clock=clock)
    clock.now += 61
    assert watch.expired()


def test_a_beat_outlives_a_store_that_fails_for_a_while(local_store, monkeypatch):
    claim = log.claim(local_store, FP, log.Owner.here("p", "r", "s"))
    beat = Beat(local_store, claim, interval=0.01)
    give, tries = beat._beat, []

    def fail_sometimes():
        tries.append(1)
        if 1 < len(tries) < 4:
            raise StoreUnreachableError
        give()

    monkeypatch.setattr(beat, "_beat", fail_sometimes)
    with beat:
        end = time.monotonic() + 5
        while len(tries) < 5 and time.monotonic() < end:
            time.sleep(0.005)
    assert len(tries) >= 5


def test_a_beat_that_asks_for_patience_is_waited_for_so_long(local_store):
    claim = log.claim(local_store, FP, log.Owner.here("p", "r", "s"))
    clock = Clock()
    give(local_store, claim, PATIENCE)
    watch = Watch(local_store, claim, expiry=60, clock=clock)
    clock.now += PATIENCE
    assert not watch.expired()
    clock.now += 0.1
    assert watch.expired()
    give(local_store, claim)
    assert not watch.expired()
    clock.now += 60.1
    assert watch.expired()


@pytest.mark.parametrize(
    ("beat", "seconds"),
    [
        (b"", 0.0),
        (b"0123456789abcdef", 0.0),
        (b"patient 900 0123456789abcdef", 900.0),
        (b"patient 9999 0123456789abcdef", PATIENCE),
        (b"patient 99999 0123456789abcdef", 0.0),
        (b"patient -1 0123456789abcdef", 0.0),
    ],
)
def test_a_beat_asks_for_no_more_patience_than_there_is(beat, seconds):
    assert patience_of(beat) == seconds


def test_a_beat_that_is_left_stays_and_asks_for_patience(local_store):
    claim = log.claim(local_store, FP, log.Owner.here("p", "r", "s"))
    with Beat(local_store, claim, interval=0.01) as beat:
        beat.leave()
    assert patience_of(local_store.read(f"beat/{FP}/{claim.id}")) == PATIENCE
