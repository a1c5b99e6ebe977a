from __future__ import annotations

import threading

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.operators.claims import Turn, Wait, Waited, describe, held
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Log, Owner
from airflow_mlpipe.store.store import Store

KEY = "f" * 64


def owner(run="r1", **given):
    return Owner.here("p", run, "train", given.pop("task_instance", f"p/{run}/train/-1"), given.pop("try_number", 1))


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


class Waiter:
    """Takes its turn in a thread of its own."""

    def __init__(self, store, run="r2", **how):
        self.said, self.result, self.error = [], None, None
        self.waits = threading.Event()
        self.turn = Turn(store, KEY, owner(run), self._say)
        self.thread = threading.Thread(target=self._take, kwargs=how)
        self.thread.start()

    def _say(self, line):
        self.said.append(line)
        self.waits.set()

    def _take(self, **how):
        try:
            self.result = self.turn.take(**how)
        except StepError as error:
            self.error = error

    def end(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.result


def take(store, run="r1", **given):
    return Turn(store, KEY, owner(run, **given), lambda _: None).take()


def holder(store):
    return Log.read(store, KEY).holder


def test_who_comes_first_gets_the_claim_without_waiting(store):
    said = []
    claim = Turn(store, KEY, owner(), said.append).take()
    assert holder(store).id == claim.id
    assert said == []


def test_who_comes_second_says_for_whom_it_waits_and_since_when_and_gets_what_was_computed(store):
    claim = take(store)
    waiter = Waiter(store)
    assert waiter.waits.wait(10)
    fingerprint_log.commit(store, claim, {"made": 1})
    assert waiter.end() == Waited(claim.owner)
    assert waiter.said == [f"waits for p / r1 / train, which began at {claim.time}"]
    assert holder(store) is None


def test_who_regenerates_waits_for_the_claim_itself(store):
    claim = take(store)
    waiter = Waiter(store, until_commit=False)
    assert waiter.waits.wait(10)
    fingerprint_log.commit(store, claim, {"made": 1})
    taken = waiter.end()
    assert holder(store).id == taken.id
    assert taken.owner.run == "r2"


def test_a_holder_that_gives_up_without_an_error_lets_the_next_one_begin(store):
    claim = take(store)
    waiter = Waiter(store)
    assert waiter.waits.wait(10)
    fingerprint_log.release(store, claim)
    assert waiter.end().owner.run == "r2"


def test_rule_8_who_waits_for_a_holder_that_fails_fails_with_its_error_and_holds_nothing(store):
    claim = take(store)
    waiter = Waiter(store)
    assert waiter.waits.wait(10)
    fingerprint_log.release(store, claim, "exit code 7")
    assert waiter.end() is None
    assert str(waiter.error) == "p / r1 / train, which this step waited for, failed: exit code 7"
    assert holder(store) is None


def test_who_comes_after_a_failure_does_not_fail_with_it(store):
    fingerprint_log.release(store, take(store), "exit code 7")
    assert take(store, "r2").owner.run == "r2"


def test_an_earlier_try_of_the_same_task_instance_is_superseded_at_once(store):
    first = take(store, task_instance="d/r1/train/-1", try_number=1)
    second = take(store, task_instance="d/r1/train/-1", try_number=2)
    assert holder(store).id == second.id != first.id


def test_a_wait_that_was_handed_over_ends_at_once_if_its_holder_has_committed_meanwhile(store):
    claim = take(store)
    fingerprint_log.commit(store, claim, {"made": 1})
    turn = Turn(store, KEY, owner("r2"), lambda _: None, before=Wait((claim.id,)))
    assert turn.take() == Waited(claim.owner)


def test_a_wait_that_was_handed_over_fails_with_its_holder(store):
    claim = take(store)
    fingerprint_log.release(store, claim, "exit code 7")
    turn = Turn(store, KEY, owner("r2"), lambda _: None, before=Wait((claim.id,)))
    with pytest.raises(StepError, match="failed: exit code 7"):
        turn.take()


def test_a_holder_that_somebody_saw_expire_is_taken_over_if_its_beat_is_still_the_same(store):
    claim, said = take(store), []
    with fingerprint_log.Beat(store, claim):
        beat = fingerprint_log.Watch(store, claim).beat
        before = Wait((claim.id,), claim.id, beat.hex())
        taken = Turn(store, KEY, owner("r2"), said.append, before=before).take()
    assert holder(store).id == taken.id
    assert said == ["takes over from p / r1 / train, which has shown no sign of life"]


def test_a_destination_is_held_for_the_block_and_given_back_even_after_an_error(store):
    with held(store, KEY, owner(), lambda _: None) as claim:
        assert holder(store).id == claim.id
    assert holder(store) is None
    with pytest.raises(KeyError), held(store, KEY, owner(), lambda _: None):
        raise KeyError
    assert holder(store) is None


def test_a_destination_has_one_holder_at_a_time(store):
    inside, seen = [], []

    def write(run):
        with held(store, KEY, owner(run), lambda _: None):
            inside.append(run)
            seen.append(len(inside))
            inside.remove(run)

    threads = [threading.Thread(target=write, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [1, 1, 1, 1]


def test_a_holder_is_described_as_a_person_would_look_it_up():
    assert describe(owner("r9")) == "p / r9 / train"
