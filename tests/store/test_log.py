from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlpipe.exceptions import ClaimLostError, RecordFormatError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.log import (
    Claim,
    Log,
    Owner,
    claim,
    commit,
    commit_unclaimed,
    evict,
    move,
    release,
    take_over,
    void,
)
from airflow_mlpipe.store.store import Store

FP = "f0" * 32
ME = Owner.here("churn", "monday", "train", "churn/monday/train/-1", 1)
OTHER = replace(ME, run="tuesday", task_instance="churn/tuesday/train/-1")


def read(store):
    return Log.read(store, FP)


def numbers(store):
    return [record.number for record in read(store).records]


def test_an_unknown_fingerprint_has_an_empty_log(store):
    log = read(store)
    assert (log.records, log.holder, log.last, log.damaged) == ((), None, 0, ())


def test_a_claim_excludes_others_until_it_commits(store):
    mine = claim(store, FP, ME)
    assert read(store).holder == mine
    assert claim(store, FP, OTHER) is None
    record = commit(store, mine, {"answer": 42})
    assert read(store).holder is None
    assert read(store).records == (record,)
    assert record.body == {"answer": 42}
    assert claim(store, FP, OTHER)
    assert read(store).records == (record,)


def test_a_release_says_why_and_makes_room(store):
    mine = claim(store, FP, ME)
    release(store, mine, "it failed")
    log = read(store)
    assert log.holder is None
    assert log.failure(mine.id) == "it failed"
    assert log.failure("other") is None
    assert claim(store, FP, OTHER)


def test_a_release_without_error_is_no_failure(store):
    mine = claim(store, FP, ME)
    release(store, mine)
    assert read(store).failure(mine.id) is None


def test_rule_8_a_late_writer_is_fenced(store):
    late = claim(store, FP, ME)
    taken = take_over(store, FP, late, OTHER)
    with pytest.raises(ClaimLostError, match="taken over by churn / tuesday / train"):
        commit(store, late, {"by": "late"})
    record = commit(store, taken, {"by": "taken"})
    assert read(store).records == (record,)


def test_a_commit_that_a_claim_precedes_counts_for_nothing(store):
    late = claim(store, FP, ME)
    taken = take_over(store, FP, late, OTHER)
    data = {"format": 1, "number": 3, "time": "", "kind": "commit", "claim": late.id, "body": {}}
    assert store.create(layout.log_entry(FP, 3), json.dumps(data).encode())
    assert read(store).records == ()
    assert read(store).holder == taken


def test_only_the_holder_is_taken_over(store):
    first = claim(store, FP, ME)
    second = take_over(store, FP, first, OTHER)
    assert take_over(store, FP, first, ME) is None
    release(store, second)
    assert take_over(store, FP, second, ME) is None


def test_an_earlier_try_of_the_same_task_is_superseded_at_once(store):
    first = claim(store, FP, ME)
    assert claim(store, FP, ME) is None
    second = claim(store, FP, replace(ME, try_number=2))
    assert second
    assert claim(store, FP, ME) is None
    with pytest.raises(ClaimLostError):
        commit(store, first, {})


def test_a_holder_whose_process_has_ended_is_superseded_at_once(local_store):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        gone = pool.apply(Owner.here, ("churn", "monday", "train"))
    assert claim(local_store, FP, gone)
    assert claim(local_store, FP, ME)


def test_a_commit_made_twice_is_one_record(store):
    mine = claim(store, FP, ME)
    record = commit(store, mine, {"answer": 42})
    assert commit(store, mine, {"answer": 42}) == record
    claim(store, FP, OTHER)
    assert commit(store, mine, {"answer": 42}) == record
    assert numbers(store) == [2]


def test_rule_11_an_unclaimed_commit_always_counts(store):
    mine = claim(store, FP, ME)
    unclaimed = commit_unclaimed(store, FP, "0a", {"answer": 1})
    assert commit_unclaimed(store, FP, "0a", {"answer": 1}) == unclaimed
    assert read(store).holder == mine
    record = commit(store, mine, {"answer": 2})
    assert read(store).records == (record, unclaimed)


def test_a_voided_commit_gives_way_to_the_one_before(store):
    first = commit(store, claim(store, FP, ME), {"n": 1})
    second = commit(store, claim(store, FP, ME), {"n": 2})
    void(store, FP, second.number, "its outputs are gone")
    assert read(store).records == (first,)
    last = read(store).last
    void(store, FP, second.number, "its outputs are gone")
    void(store, FP, 99, "there is no such commit")
    assert read(store).last == last


def test_a_commit_that_gave_up_its_outputs_still_counts_and_says_so(store):
    first = commit(store, claim(store, FP, ME), {"n": 1})
    second = commit(store, claim(store, FP, ME), {"n": 2})
    evict(store, FP, first.number, "for the room")
    assert read(store).records == (second, replace(first, evicted=True))
    last = read(store).last
    evict(store, FP, first.number, "for the room")
    evict(store, FP, 99, "there is no such commit")
    assert read(store).last == last
    void(store, FP, first.number, "for good")
    evict(store, FP, first.number, "too late")
    assert read(store).records == (second,)


def test_a_claim_whose_commit_was_voided_may_commit_again(store):
    mine = claim(store, FP, ME)
    void(store, FP, commit(store, mine, {"n": 1}).number, "damaged")
    assert commit(store, mine, {"n": 2}).body == {"n": 2}
    assert len(read(store).records) == 1


def test_entries_are_read_in_the_order_of_their_numbers(store):
    for number in range(1, 12):
        commit_unclaimed(store, FP, f"c{number}", {"n": number})
    assert [record.body["n"] for record in read(store).records] == list(range(11, 0, -1))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"format": 1, "kind": "claim", "time": ""}', b'{"format": "1"}']
)
def test_rule_10_a_damaged_entry_makes_no_record_and_keeps_its_number(store, content):
    mine = claim(store, FP, ME)
    store.create(layout.log_entry(FP, 2), content)
    assert read(store).damaged == (2,)
    assert commit(store, mine, {}).number == 3


def test_rule_10_an_entry_in_which_any_byte_changed_counts_for_nothing_or_says_the_same(local_store):
    mine = claim(local_store, FP, ME)
    commit(local_store, mine, {"metrics": {"auc": 0.9}, "outputs": {"out": {"digest": "sha256:00ff", "size": 17}}})
    path = layout.log_entry(FP, 2)
    content, entries = local_store.read(path), read(local_store).entries
    for place in range(len(content)):
        for bit in (1, 4, 64):
            broken = bytearray(content)
            broken[place] ^= bit
            local_store.write(path, bytes(broken))
            log = read(local_store)
            assert log.damaged == (2,) or [entry.data["body"] for entry in log.entries[1:]] == [entries[1].data["body"]]


def test_an_entry_of_an_earlier_version_has_no_checksum_and_counts(store):
    mine = claim(store, FP, ME)
    data = {"format": 1, "number": 2, "time": "", "kind": "commit", "claim": mine.id, "body": {"answer": 42}}
    store.create(layout.log_entry(FP, 2), json.dumps(data).encode())
    assert [record.body for record in read(store).records] == [{"answer": 42}]


def test_an_entry_of_a_newer_version_is_refused_by_name(store):
    store.create(layout.log_entry(FP, 1), b'{"format": 2, "kind": "lease"}')
    with pytest.raises(RecordFormatError, match=r"000001\.json has format 2.*upgrade"):
        read(store)


def test_a_body_that_is_no_json_is_refused_before_it_is_written(store):
    mine = claim(store, FP, ME)
    with pytest.raises(ValueError, match="JSON"):
        commit(store, mine, {"loss": float("nan")})
    assert read(store).holder == mine


def test_the_entries_are_pinned(store):
    mine = claim(store, FP, ME)
    commit(store, mine, {"answer": 42})
    first, second = (json.loads(store.read(layout.log_entry(FP, number))) for number in (1, 2))
    assert first.keys() == {"format", "kind", "number", "time", "writer", "claim", "owner", "checksum"}
    assert second.keys() == {"format", "kind", "number", "time", "writer", "claim", "body", "checksum"}
    assert first["owner"].keys() == {
        "host",
        "process",
        "boot",
        "pipeline",
        "run",
        "step",
        "task_instance",
        "try_number",
    }


def test_a_writer_killed_before_its_entry_leaves_the_log_as_it_was(local_store):
    mine = claim(local_store, FP, ME)

    def write_and_die():
        os.link = lambda *_: os._exit(9)
        commit(local_store, mine, {})

    child = multiprocessing.get_context("fork").Process(target=write_and_die)
    child.start()
    child.join()
    assert child.exitcode == 9
    assert read(local_store).last == 1
    assert commit(local_store, mine, {}).number == 2


RACERS, ROUNDS = 8, 200


def test_rule_8_eight_processes_claim_one_fingerprint_and_one_wins(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(RACERS, timeout=60), context.Array("i", RACERS * ROUNDS)

    def race(racer):
        store = Store.open(str(tmp_path / "store"))
        owner = Owner.here("churn", f"run {racer}", "train")
        for turn in range(ROUNDS):
            barrier.wait()
            won = claim(store, f"{turn:064x}", owner)
            wins[turn * RACERS + racer] = 0 if won is None else 1
        barrier.wait()  # a winner that has ended would be superseded

    racers = [context.Process(target=race, args=(racer,)) for racer in range(RACERS)]
    for process in racers:
        process.start()
    for process in racers:
        process.join()
    assert [process.exitcode for process in racers] == [0] * RACERS
    assert [sum(wins[turn * RACERS : (turn + 1) * RACERS]) for turn in range(ROUNDS)] == [1] * ROUNDS


def test_rule_8_of_many_takers_one_takes_over(local_store):
    holder = claim(local_store, FP, ME)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        taken = pool.starmap(take_over, [(local_store, FP, holder, OTHER)] * 8)
    assert len([new for new in taken if new]) == 1


@dataclass
class Model:
    """What a log must say, kept in plain variables."""

    last_claim: Claim | None = None
    holder: Claim | None = None
    records: list[int] = field(default_factory=list)
    made: dict[int, str] = field(default_factory=dict)
    errors: dict[str, str | None] = field(default_factory=dict)

    def began(self, new):
        self.last_claim = self.holder = new

    def committed(self, record):
        self.records.insert(0, record.number)
        self.made[record.number] = record.claim
        if self.holder and self.holder.id == record.claim:
            self.holder = None

    def record_of(self, claim_id):
        return next((number for number in self.records if self.made[number] == claim_id), None)


class Play:
    """Does the same to a store and to the model."""

    def __init__(self, store):
        self.store = store
        self.model = Model()
        self.claims = []

    def claim(self, choice):
        owner = replace(ME, task_instance=f"task {choice.randrange(2)}", try_number=choice.randrange(1, 4))
        held = self.model.holder.owner if self.model.holder else None
        free = held is None or (held.task_instance == owner.task_instance and held.try_number < owner.try_number)
        self._began(claim(self.store, FP, owner), free)

    def take_over(self, choice):
        if self.claims:
            holder = choice.choice(self.claims)
            expected = self.model.holder is not None and self.model.holder.id == holder.id
            self._began(take_over(self.store, FP, holder, OTHER), expected)

    def _began(self, new, expected):
        assert (new is not None) == expected
        if new:
            self.model.began(new)
            self.claims.append(new)

    def commit(self, choice):
        if not self.claims:
            return
        mine = choice.choice(self.claims)
        earlier = self.model.record_of(mine.id)
        if earlier is not None:
            assert commit(self.store, mine, {"x": 1}).number == earlier
        elif self.model.last_claim.id == mine.id:
            self.model.committed(commit(self.store, mine, {"x": 1}))
        else:
            with pytest.raises(ClaimLostError):
                commit(self.store, mine, {"x": 1})

    def commit_unclaimed(self, _):
        self.model.committed(commit_unclaimed(self.store, FP, uuid.uuid4().hex, {"x": 1}))

    def void(self, choice):
        number = choice.randrange(1, 12)
        void(self.store, FP, number, "damaged")
        if number in self.model.records:
            self.model.records.remove(number)

    def release(self, choice):
        if not self.claims:
            return
        mine = choice.choice(self.claims)
        release(self.store, mine, "it failed")
        if self.model.holder and self.model.holder.id == mine.id:
            self.model.holder = None
            self.model.errors[mine.id] = "it failed"

    def crash(self, choice):
        """Leave what a killed writer leaves: a temporary file, or on careless filesystems a damaged entry."""
        folder = layout.log_folder(FP)
        self.store.write(f"{folder}/.{choice.randrange(10**6)}.tmp", b'{"format": 1, "kind": "claim"')
        if choice.random() < 0.5:
            self.store.write(layout.log_entry(FP, Log.read(self.store, FP).last + 1), b'{"format": 1, "ki')

    def check(self):
        log = Log.read(self.store, FP)
        assert [record.number for record in log.records] == self.model.records
        assert log.holder == self.model.holder
        assert {mine.id: log.failure(mine.id) for mine in self.claims} == {
            mine.id: self.model.errors.get(mine.id) for mine in self.claims
        }


ACTIONS = ("claim", "claim", "take_over", "commit", "commit", "commit_unclaimed", "void", "release", "crash")


@pytest.mark.parametrize("kind", ["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
@settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=25), seed=st.integers(0, 2**32))
def test_rule_8_the_log_does_what_its_model_does(request, kind, actions, seed):
    folder = tempfile.mkdtemp(prefix="mlpipe-test-")
    try:
        if kind == "s3":
            server = request.getfixturevalue("s3")
            store = Store.open(server.fresh(), server.options)
        else:
            store = Store.open(folder if kind == "local" else f"memory://{uuid.uuid4().hex}")
        play = Play(store)
        choice = random.Random(seed)
        for action in actions:
            getattr(play, action)(choice)
            play.check()
    finally:
        shutil.rmtree(folder)


def test_a_claim_that_went_on_elsewhere_is_nobodys_whose_process_has_ended(store):
    gone = replace(ME, process=ME.process.replace(ME.process.split("/")[0], "4194304", 1))
    held = claim(store, FP, gone)
    moved = move(store, held, gone.anywhere())
    assert read(store).holder == moved
    assert not moved.owner.is_dead()
    assert claim(store, FP, OTHER) is None
    back = move(store, moved, ME)
    assert read(store).holder.owner == ME
    assert commit(store, back, {"by": "me"}).claim == held.id


def test_a_claim_that_was_lost_goes_on_nowhere(store):
    held = claim(store, FP, ME)
    assert take_over(store, FP, held, OTHER)
    with pytest.raises(ClaimLostError, match="was taken over by"):
        move(store, held, ME)


def test_a_claim_that_was_given_back_goes_on_nowhere(store):
    held = claim(store, FP, ME)
    release(store, held)
    with pytest.raises(ClaimLostError, match="was given back"):
        move(store, held, ME)


def test_who_claims_knows_who_was_lost_before_and_may_record_what_that_one_has_published(store):
    first = claim(store, FP, ME)
    second = take_over(store, FP, first, OTHER)
    third = take_over(store, FP, second, ME)
    assert third.lost == (second, first)
    record = commit(store, third, {"by": "first"}, adopted=first.id)
    found = read(store)
    assert found.records == (record,)
    assert (record.claim, record.published) == (third.id, first.id)
    assert found.record_of(first.id) == found.commit_of(first.id) == record
    assert commit(store, first, {"by": "late"}) == record
    with pytest.raises(ClaimLostError):
        commit(store, second, {"by": "second"})
    assert found.unfinished == (second,)
