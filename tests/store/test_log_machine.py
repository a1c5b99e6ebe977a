"""A fingerprint that several processes want at once, in any order of claim, beat, pause, expiry, takeover and crash.

Between what a process reads and what it writes, others may have their turn: an entry that is appended may find its place
taken as often as the machine likes. Time is a number that rules add to.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from airflow_mlpipe.exceptions import ClaimLostError
from airflow_mlpipe.store import layout, log
from airflow_mlpipe.store.beat import PATIENCE, give
from airflow_mlpipe.store.log import Claim, Log, Owner, Record, Watch
from airflow_mlpipe.store.store import Store

FP = "f0" * 32
HERE = Owner.here("churn", "monday", "train")
EXPIRY, INTERVAL = 60.0, 10.0
TASKS, TRIES = 3, 3


class CrashedError(BaseException):
    """What a process that is killed does: nothing more."""


@dataclass
class Door:
    """The store as one process sees it; something may happen just before or after it creates an entry.

    ``before`` are turns of others, taken one by one before each try. ``crash`` kills the process before it has created
    an entry, or after.
    """

    store: Store
    before: list[Any] = field(default_factory=list)
    crash: str = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def create(self, path: str, content: bytes) -> bool:
        if self.before:
            self.before.pop(0)()
        if self.crash == "before":
            raise CrashedError
        created = self.store.create(path, content)
        if self.crash == "after":
            raise CrashedError
        return created


@dataclass
class Process:
    """One that holds a claim, or did: it runs until it ends or is killed, and gives signs of life unless it is paused.

    What it has ``published`` others may record. While it is ``away``, its work goes on without it, and its beats ask for
    patience.
    """

    claim: Claim
    dead: bool = False
    paused: bool = False
    last_beat: float = 0.0
    published: bool = False
    away: bool = False


@dataclass
class Waiter:
    """One that watches a holder."""

    watch: Watch
    owner: Owner
    since: float


class OneFingerprint(RuleBasedStateMachine):
    """Compares the log with what a list of what was written says of it."""

    processes = Bundle("processes")
    takers = Bundle("takers")
    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.store = Store.open(f"memory://{uuid.uuid4().hex}")
        self.now = 0.0
        self.all: dict[str, Process] = {}
        self.order: list[str] = []
        self.ended: set[str] = set()
        self.commits: list[tuple[int, str, str]] = []
        self.voided: set[int] = set()
        self.fenced: set[str] = set()

    @property
    def holder(self) -> str | None:
        """The claim that holds by what has happened: the last one, unless it has ended."""
        return self.order[-1] if self.order and self.order[-1] not in self.ended else None

    def owner(self, task: int, try_number: int) -> Owner:
        return replace(HERE, run=f"run {task}", task_instance=f"task {task}", try_number=try_number)

    def began(self, claim: Claim) -> Process:
        self.order.append(claim.id)
        self.all[claim.id] = Process(claim, last_beat=self.now)
        self.beat_of(claim)
        return self.all[claim.id]

    def beat_of(self, claim: Claim) -> None:
        give(self.store, claim, PATIENCE if self.all[claim.id].away else 0.0)

    def others(self, turns: list[str]) -> list[Any]:
        """Return what others do meanwhile."""
        return [getattr(self, f"meanwhile_{turn}") for turn in turns]

    def meanwhile_void(self) -> None:
        if self.counting():
            number = self.counting()[0][0]
            log.void(self.store, FP, number, "damaged")
            self.voided.add(number)

    def meanwhile_take_over(self) -> None:
        if self.holder:
            taken = log.take_over(self.store, FP, self.all[self.holder].claim, self.owner(9, 1))
            assert taken
            self.began(taken)

    def meanwhile_commit_unclaimed(self) -> None:
        claim = uuid.uuid4().hex
        record = log.commit_unclaimed(self.store, FP, claim, {"by": claim})
        self.commits.append((record.number, claim, claim))

    def counting(self) -> list[tuple[int, str, str]]:
        """Return number, claim, and whose work it is, of the commits that count, newest first."""
        return [commit for commit in reversed(self.commits) if commit[0] not in self.voided]

    MEANWHILE = st.lists(st.sampled_from(["void", "take_over", "commit_unclaimed"]), max_size=2)

    @rule(target=processes, task=st.integers(0, TASKS - 1), try_number=st.integers(1, TRIES), meanwhile=MEANWHILE)
    def claim(self, task: int, try_number: int, meanwhile: list[str]) -> Any:
        """Claim: only where nobody holds, or an earlier try of the same task does, whatever happens meanwhile."""
        owner = self.owner(task, try_number)
        door = Door(self.store, self.others(meanwhile))
        made = log.claim(door, FP, owner)
        held = self.all[self.holder].claim.owner if self.holder else None
        free = held is None or (held.task_instance == owner.task_instance and held.try_number < try_number)
        assert (made is not None) == free
        return self.began(made) if made else multiple()

    def lost(self) -> list[str]:
        """Return the claims that have neither ended nor been recorded by others, newest first."""
        recorded = {work for _, _, work in self.commits}
        return [claim for claim in reversed(self.order) if claim not in self.ended | recorded]

    @rule(process=processes)
    def publish(self, process: Process) -> None:
        process.published = process.published or not (process.dead or process.paused)

    @precondition(lambda self: self.holder)
    @rule(targets=(processes, takers), task=st.integers(0, TASKS - 1), published=st.booleans(), dies=st.booleans())
    def be_taken_over(self, task: int, *, published: bool, dies: bool) -> Any:
        """Lose the claim, perhaps with all outputs published; who has died cannot commit them any more."""
        holder = self.all[self.holder]
        holder.published, holder.dead = holder.published or (published and not holder.dead), holder.dead or dies
        taken = log.take_over(self.store, FP, holder.claim, self.owner(task, 1))
        assert taken
        assert [lost.id for lost in taken.lost] == self.lost()
        return self.began(taken)

    @rule(process=takers, meanwhile=MEANWHILE)
    def adopt(self, process: Process, meanwhile: list[str]) -> None:
        """Record what an earlier holder has published and did not come to commit; nobody else does so, too."""
        claim = process.claim
        found = [lost.id for lost in claim.lost if self.all[lost.id].published]
        if process.dead or process.paused or not found:
            return
        door = Door(self.store, self.others(meanwhile))
        counted = [number for number, *by in self.counting() if claim.id in by]
        record = self.try_to_commit(door, claim, found[0])
        if record is None:
            self.fenced.add(claim.id)
        elif record.number not in counted:
            assert self.order[-1] == claim.id
            self.commits.append((record.number, claim.id, found[0]))
            self.ended.add(claim.id)
            first = self.all[found[0]]
            late = None if first.dead or first.paused else self.try_to_commit(Door(self.store), first.claim)
            assert late in (None, record)
            assert late or first.dead or first.paused, "what is recorded of its work was kept from it"

    @rule(process=processes)
    def leave_or_come_back(self, process: Process) -> None:
        """Go on elsewhere, or here again, as long as the claim is held."""
        if process.dead or process.paused:
            return
        owner = process.claim.owner if process.away else process.claim.owner.anywhere()
        try:
            moved = log.move(self.store, process.claim, owner)
        except ClaimLostError:
            assert self.holder != process.claim.id
            return
        assert self.holder == process.claim.id
        found = Log.read(self.store, FP).holder
        assert found == moved
        process.away = not process.away
        process.last_beat = self.now
        self.beat_of(process.claim)

    @rule(task=st.integers(0, TASKS - 1), when=st.sampled_from(["before", "after"]))
    def crash_while_claiming(self, task: int, when: str) -> None:
        """Die before the claim is written, or before one knows that it is: then it holds until others see no beat."""
        if self.holder:
            return
        before = Log.read(self.store, FP).last
        with pytest.raises(CrashedError):
            log.claim(Door(self.store, crash=when), FP, self.owner(task, 1))
        after = Log.read(self.store, FP)
        assert after.last == before + (when == "after")
        if when == "after":
            assert after.holder
            self.order.append(after.holder.id)
            self.all[after.holder.id] = Process(after.holder, dead=True)

    @rule(process=processes)
    def pause_or_go_on(self, process: Process) -> None:
        process.paused = not process.paused

    @rule(process=processes)
    def crash(self, process: Process) -> None:
        process.dead = True

    def time_passes(self, seconds: float) -> None:
        """Let time pass; whoever lives and is not paused beats all the while."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + INTERVAL)
            for process in self.all.values():
                if not process.dead and not process.paused:
                    process.last_beat = self.now
                    self.beat_of(process.claim)

    @precondition(lambda self: self.holder)
    @rule(target=waiters, task=st.integers(0, TASKS - 1))
    def wait(self, task: int) -> Waiter:
        holder = self.all[self.holder].claim
        return Waiter(Watch(self.store, holder, EXPIRY, lambda: self.now), self.owner(task, 1), self.now)

    @rule(target=processes, waiter=waiters, later=st.sampled_from([0.0, INTERVAL, EXPIRY, EXPIRY + 1, 3 * EXPIRY]))
    def look(self, waiter: Waiter, later: float) -> Any:
        """Look at the beat after a time; take over only who has shown none for longer than the expiry."""
        self.time_passes(later)
        holder = self.all[waiter.watch.claim.id]
        silent = self.now - max(holder.last_beat, waiter.since)
        expired = waiter.watch.expired()
        assert not (expired and silent <= EXPIRY), "a holder that beats was taken for gone"
        if not expired:
            return multiple()
        holds = self.holder == holder.claim.id
        taken = log.take_over(self.store, FP, holder.claim, waiter.owner)
        assert (taken is not None) == holds
        return self.began(taken) if taken else multiple()

    @rule(waiter=consumes(waiters))
    def wait_to_the_end(self, waiter: Waiter) -> None:
        """However a holder was lost, whoever waits gets to know after two looks and the expiry."""
        holder = self.all[waiter.watch.claim.id]
        if holder.dead or holder.paused:
            waiter.watch.expired()
            self.time_passes((PATIENCE if holder.away else EXPIRY) + 1)
            assert waiter.watch.expired()

    @rule(process=processes, meanwhile=MEANWHILE)
    def commit(self, process: Process, meanwhile: list[str]) -> None:
        """Commit, however late: it counts only for who has the last claim when it is written."""
        if process.dead or process.paused:
            return
        claim = process.claim
        door = Door(self.store, self.others(meanwhile))
        counted = [number for number, *by in self.counting() if claim.id in by]
        record = self.try_to_commit(door, claim)
        if record is None:
            self.fenced.add(claim.id)
            return
        if record.number in counted:
            return
        assert self.order[-1] == claim.id
        self.commits.append((record.number, claim.id, claim.id))
        self.ended.add(claim.id)

    def try_to_commit(self, door: Door, claim: Claim, adopted: str = "") -> Record | None:
        """Commit; return None where the claim was lost, and see that it was."""
        try:
            return log.commit(door, claim, {"by": claim.id}, adopted)
        except ClaimLostError as error:
            lost = error
        last = self.all[self.order[-1]].claim
        assert last != claim
        assert lost.by_later_try == claim.owner.is_superseded_by(last.owner)
        return None

    @rule(process=processes, when=st.sampled_from(["before", "after"]))
    def crash_while_committing(self, process: Process, when: str) -> None:
        """Die before the commit is written, or before one knows that it is: it counts just if it is there."""
        claim = process.claim
        if process.dead or self.order[-1] != claim.id or any(claim.id in by for _, *by in self.counting()):
            return
        last = Log.read(self.store, FP).last
        with pytest.raises(CrashedError):
            log.commit(Door(self.store, crash=when), claim, {"by": claim.id})
        process.dead = True
        if when == "after":
            self.commits.append((last + 1, claim.id, claim.id))
            self.ended.add(claim.id)

    @rule(process=processes, error=st.sampled_from([None, "exit code 7"]))
    def release(self, process: Process, error: str | None) -> None:
        if process.dead or process.paused:
            return
        holds = self.holder == process.claim.id
        log.release(self.store, process.claim, error)
        if holds:
            self.ended.add(process.claim.id)
            assert Log.read(self.store, FP).failure(process.claim.id) == error

    @rule()
    def void(self) -> None:
        self.meanwhile_void()

    @rule(cut=st.integers(0, 40))
    def leave_half_an_entry(self, cut: int) -> None:
        """Leave what a careless filesystem may leave of a writer that was killed."""
        number = Log.read(self.store, FP).last + 1
        whole = json.dumps({"format": 1, "number": number, "kind": "claim", "claim": "0a", "time": "", "owner": {}})
        self.store.write(layout.log_entry(FP, number), whole[:cut].encode())

    @invariant()
    def the_log_says_what_happened(self) -> None:
        found = Log.read(self.store, FP)
        assert [(record.number, record.claim, record.published) for record in found.records] == self.counting()
        assert (found.holder.id if found.holder else None) == self.holder
        assert [record.body["by"] for record in found.records] == [claim for _, claim, _ in self.counting()]
        assert [claim.id for claim in found.unfinished] == self.lost()

    @invariant()
    def at_most_one_commit_of_a_claim_counts(self) -> None:
        records = Log.read(self.store, FP).records
        for by in ([record.claim for record in records], [record.published for record in records]):
            assert len(by) == len(set(by))

    @invariant()
    def nothing_of_who_was_fenced_counts_unless_it_was_committed_in_time(self) -> None:
        counting = {record.claim for record in Log.read(self.store, FP).records}
        in_time = {by for _, by, _ in self.commits}
        assert not counting & (self.fenced - in_time)


OneFingerprint.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestOneFingerprint = OneFingerprint.TestCase
