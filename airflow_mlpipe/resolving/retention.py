"""What goes by the user's policy, and how it goes: in two phases, never what somebody refers to (rule 12).

First a record is voided, or marked as evicted, so that nobody finds it any more, and what became nobody's is written
down. A grace time later all runs, pins and logs are read again, and what is still nobody's is removed. Whoever had found
a record just before it was voided has written down by then that it uses it.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.resolving.history import OF_RUNS, expired
from airflow_mlpipe.resolving.inventory import Inventory, Item
from airflow_mlpipe.resolving.leftovers import (
    LEAST,
    Leftover,
    Listing,
    forgotten_checkpoints,
    leftovers,
    temporaries,
    unneeded,
)
from airflow_mlpipe.resolving.referring import LIVE, RECENT, Referring, referring
from airflow_mlpipe.store import condemned, layout
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.entries import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from airflow_mlpipe.store.store import Store

GRACE = timedelta(hours=1)
_GIGA = 1e9
_LONGEST = 1e10
"""Seconds that are told at most; more is no time a person could imagine."""


@dataclass(frozen=True)
class Policy:
    """What shall go.

    A record goes if it is older than ``older_than`` and has not been used for ``unused_for``, whichever of the two are
    given; then, while the outputs that stay exceed ``max_size`` bytes, those go that are computed again most cheaply for
    the room they take. The last ``keep_last`` records of each step stay in any case; if only that is given, all others
    go. Where ``evict``, only outputs go.

    What runs left, plans, notes and the journal, goes if they ended longer ago than ``runs_older_than``.
    """

    older_than: timedelta | None = None
    unused_for: timedelta | None = None
    max_size: int | None = None
    keep_last: int | None = None
    evict: bool = False
    runs_older_than: timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 0:
            message = f"how many records of a step are kept must be 0 or more, given: {self.keep_last}"
            raise MlpipeError(message)


NOTHING = Policy()
"""By which nothing goes."""


@dataclass(frozen=True)
class Guard:
    """What protects a record from the policy; see `airflow_mlpipe.resolving.referring`."""

    grace: timedelta = GRACE
    live: timedelta = LIVE
    recent: timedelta = RECENT

    def history(self, policy: Policy) -> timedelta | None:
        """Return how long what runs left stays; None for ever.

        At least as long as a run may be under way, and as last uses decide: the journal tells them.
        """
        if policy.runs_older_than is None:
            return None
        return max(policy.runs_older_than, policy.unused_for or timedelta(0), self.live, self.recent)


@dataclass(frozen=True)
class Choice:
    """A record that goes, or that would go but is ``kept`` since somebody refers to it."""

    item: Item
    why: str
    kept: str | None = None


@dataclass(frozen=True)
class Survey:
    """A store at one moment: its files, its records, and who refers to what."""

    listing: Listing
    inventory: Inventory
    referring: Referring
    leftovers: tuple[Leftover, ...]

    @classmethod
    def read(cls, store: Store, guard: Guard, policy: Policy = NOTHING) -> Survey:
        """Read a whole store; the files first, so that what appears meanwhile is not taken for a leftover."""
        listing = Listing.read(store)
        inventory = Inventory.read(store)
        refers = referring(store, guard.live, guard.recent, inventory.logs)
        found = [*leftovers(store, listing, inventory, refers), *temporaries(store), *forgotten_checkpoints(store)]
        if (history := guard.history(policy)) is not None:
            found += expired(store, listing, inventory, refers, history)
        return cls(listing, inventory, refers, tuple(found))


@dataclass(frozen=True)
class Pruning:
    """What a pruning does, or would do.

    ``choices`` are the records that the policy names, ``removed`` what was condemned long enough ago and is removed now,
    ``condemned`` the leftovers that go next time.
    """

    choices: tuple[Choice, ...]
    removed: tuple[Leftover, ...]
    condemned: tuple[Leftover, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def going(self) -> tuple[Choice, ...]:
        """The records that go."""
        return tuple(choice for choice in self.choices if not choice.kept)

    @property
    def kept(self) -> tuple[Choice, ...]:
        """The records that the policy names and somebody refers to."""
        return tuple(choice for choice in self.choices if choice.kept)

    def lines(self) -> Iterator[str]:
        """Yield what goes, what stays and what is removed, one line each, for a log."""
        for choice in self.choices:
            verb = f"stays, since {choice.kept}" if choice.kept else "goes"
            yield f"{choice.item.name} {choice.item.fingerprint[:12]} ({choice.item.size} bytes) {verb}: {choice.why}"
        for leftover in self.removed:
            yield f"{leftover.path} ({leftover.size} bytes) is removed: {leftover.why}"
        yield from self.unreadable

    def counts(self) -> dict[str, int]:
        """Return how many records go and stay, and how many leftovers and bytes are removed."""
        return {
            "records": len(self.going),
            "kept": len(self.kept),
            "removed": len(self.removed),
            "bytes": sum(leftover.size for leftover in self.removed),
        }


@dataclass
class Pruner:
    """Prunes one store by one policy.

    :param say: told what is done, line by line.
    """

    store: Store
    policy: Policy
    guard: Guard = field(default_factory=Guard)
    say: Callable[[str], None] = lambda _: None

    def look(self) -> Pruning:
        """Return what would be done; nothing is changed."""
        survey = self._survey()
        return self._pruning(survey, self._due(survey))

    def prune(self) -> Pruning:
        """Remove what was condemned and is still nobody's, then void what the policy names and condemn what is nobody's.

        Without a grace time, what is condemned now is removed now, after everything was read again.
        """
        survey = self._survey()
        pruning = self._pruning(survey, self._due(survey))
        pruning = replace(pruning, removed=self._remove(pruning.removed))
        self._void(pruning.going)
        voided = [Leftover("outputs", c.item.folder, c.item.size, c.why) for c in pruning.going]
        self._condemn(pruning.condemned, voided)
        if self.guard.grace > timedelta(0):
            return pruning
        removed = self._remove(self._due(self._survey()))
        gone = {leftover.path for leftover in removed}
        later = tuple(leftover for leftover in pruning.condemned if leftover.path not in gone)
        return replace(pruning, removed=pruning.removed + removed, condemned=later)

    def _survey(self) -> Survey:
        return Survey.read(self.store, self.guard, self.policy)

    def _pruning(self, survey: Survey, due: tuple[Leftover, ...]) -> Pruning:
        due_paths = {leftover.path for leftover in due}
        waiting = tuple(leftover for leftover in survey.leftovers if leftover.path not in due_paths)
        choices = tuple(choose(survey.inventory.items, self.policy, survey.referring))
        return Pruning(choices, due, waiting, tuple(survey.inventory.unreadable.values()))

    def _due(self, survey: Survey) -> tuple[Leftover, ...]:
        """Return the leftovers that were condemned long enough ago; the age of temporary files is that of the file."""
        ages: dict[str, float] = {}
        for listed in condemned.read(self.store):
            for path in listed.paths:
                ages[path] = max(listed.age, ages.get(path, 0.0))
        return tuple(
            leftover
            for leftover in survey.leftovers
            if leftover.kind == "temporary"
            or (leftover.path in ages and ages[leftover.path] >= self._least(leftover).total_seconds())
        )

    def _least(self, leftover: Leftover) -> timedelta:
        return max(self.guard.grace, LEAST.get(leftover.kind, timedelta(0)))

    def _void(self, choices: Iterable[Choice]) -> None:
        act, word = (fingerprint_log.evict, "evicted") if self.policy.evict else (fingerprint_log.void, "pruned")
        for choice in choices:
            item = choice.item
            act(self.store, item.fingerprint, item.record.number, f"{word} by policy: {choice.why}")
            self.say(f"{word} {item.name} {item.fingerprint[:12]}: {choice.why}")

    def _condemn(self, found: Iterable[Leftover], voided: Iterable[Leftover]) -> None:
        """Write down what goes next time; the time of what is written down already goes on, if it was nobody's since."""
        open_to_it = {leftover.path: leftover.kind for leftover in found}
        listed: set[str] = set()
        for each in condemned.read(self.store):
            unasked = self.policy.runs_older_than is None and each.kind in OF_RUNS
            if unasked or open_to_it.keys() >= set(each.paths):
                listed.update(each.paths)
            else:
                condemned.remove(self.store, each.name)
        fresh = {path: kind for path, kind in open_to_it.items() if path not in listed}
        fresh |= {leftover.path: leftover.kind for leftover in voided}
        for kind in sorted(set(fresh.values())):
            condemned.write(self.store, kind, (path for path, its in fresh.items() if its == kind))

    def _remove(self, found: Iterable[Leftover]) -> tuple[Leftover, ...]:
        """Remove leftovers; return those that still were leftovers."""
        removed = []
        for leftover in found:
            if leftover.kind in ("outputs", "unknown") and not self._still_unneeded(leftover.path):
                continue
            if leftover.kind == "runs" and self._began_again(leftover.path):
                continue
            if leftover.path.endswith(".tar"):  # without its list of files nobody takes it for whole
                self.store.remove(leftover.path.removesuffix(".tar") + ".json")
            self.store.remove(leftover.path)
            if leftover.kind in ("runs", "journal"):
                self._remove_empty(leftover.path.rpartition("/")[0])
            self.say(f"removed {leftover.path}: {leftover.why}")
            removed.append(leftover)
        return tuple(removed)

    def _still_unneeded(self, path: str) -> bool:
        """Look at the log once more, after the result is gone: whoever claims later does not find it."""
        _, fingerprint, claim = path.split("/")
        result = layout.result(fingerprint, claim)
        has_result = self.store.exists(result)
        if has_result:
            self.store.remove(result)
        log = Log.read(self.store, fingerprint)
        return log.last == 0 or unneeded(log, claim, has_result=has_result) is not None

    def _began_again(self, folder: str) -> bool:
        """Say whether somebody planned a run once more since it was looked at."""
        pin = layout.pin_in(folder)
        age = condemned.age_of(self.store, [pin]).get(pin)
        limit = self.guard.history(self.policy)
        return age is not None and limit is not None and age < limit.total_seconds()

    def _remove_empty(self, folder: str) -> None:
        """Remove a folder of a local store that is empty; whoever writes there just now makes it again."""
        if self.store.local_root is not None:
            with suppress(OSError):
                (self.store.local_root / folder).rmdir()


def choose(items: Sequence[Item], policy: Policy, refers: Referring, now: datetime | None = None) -> list[Choice]:
    """Return the records that a policy names, those first that are named first; pure.

    :param items: newest first.
    """
    moment = now or datetime.now(timezone.utc)
    spared = _last_of_each_step(items, policy.keep_last or 0)
    open_to_it = [item for item in items if id(item) not in spared and not (policy.evict and not item.size)]
    choices: list[Choice] = []
    chosen: set[int] = set()
    for item in open_to_it:
        if (why := _named(item, policy, moment)) is not None:
            chosen.add(id(item))
            choices.append(Choice(item, why, refers.why(item.fingerprint, item.folder)))
    if policy.max_size is not None:
        gone = {id(choice.item) for choice in choices if not choice.kept}
        total = sum(item.size for item in items if id(item) not in gone)
        rest = [item for item in open_to_it if item.size and id(item) not in chosen]
        for item in sorted(rest, key=lambda item: (worth(item), item.last_used)):
            if total <= policy.max_size:
                break
            cost = _span(timedelta(seconds=min(worth(item), _LONGEST)))
            why = f"the store is too large, and it takes {cost} a GB to make again"
            choice = Choice(item, why, refers.why(item.fingerprint, item.folder))
            choices.append(choice)
            total -= 0 if choice.kept else item.size
    return choices


def worth(item: Item) -> float:
    """Return the seconds that it takes to compute a record again, for each GB its outputs take up."""
    return item.seconds / (item.size / _GIGA) if item.size else float("inf")


def _named(item: Item, policy: Policy, now: datetime) -> str | None:
    """Return by which rule a record goes, or None."""
    if policy.older_than is None and policy.unused_for is None:
        only_count = policy.keep_last is not None and policy.max_size is None
        return f"{policy.keep_last} newer ones of this step are kept" if only_count else None
    reasons = []
    for limit, time, word in (
        (policy.older_than, item.record.time, "made"),
        (policy.unused_for, item.last_used, "last used"),
    ):
        if limit is None:
            continue
        age = now - datetime.fromisoformat(time)
        if age < limit:
            return None
        reasons.append(f"{word} {_span(age)} ago")
    return ", ".join(reasons)


def _span(age: timedelta) -> str:
    if age >= timedelta(days=2):
        return f"{age.days} days"
    if age >= timedelta(hours=1):
        return f"{age.total_seconds() / 3600:.1f} h"
    return f"{age.total_seconds() / 60:.0f} min" if age >= timedelta(minutes=2) else f"{age.total_seconds():.1f} s"


def _last_of_each_step(items: Iterable[Item], count: int) -> set[int]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    spared = set()
    for item in items:
        seen[item.step] += 1
        if seen[item.step] <= count:
            spared.add(id(item))
    return spared
