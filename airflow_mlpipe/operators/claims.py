"""One fingerprint, one runner: holds a claim while a step runs, and waits for whoever holds it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.store import log as fingerprint_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_mlpipe.store.log import Claim, Log, Owner
    from airflow_mlpipe.store.store import Store

    HandOver: TypeAlias = Callable[[Claim, tuple[str, ...]], NoReturn]
    """Lets somebody else wait for a holder, and comes back with a `Wait`; also told all claims waited for so far."""

PATIENCE = 10.0
"""Seconds somebody waits in this process before the wait is handed over: handing it over costs some three."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class Waited:
    """A wait that ended because the holder committed."""

    holder: Owner


@dataclass(frozen=True)
class Wait:
    """What is known of a wait that was handed over.

    ``awaited`` are the claims waited for. ``expired`` is the one among them that showed no sign of life any more, with
    the last ``beat`` seen, in hexadecimal digits.
    """

    awaited: tuple[str, ...] = ()
    expired: str = ""
    beat: str = ""


@dataclass
class Turn:
    """Takes the claim of one fingerprint, waiting while somebody else holds it.

    :param hand_over: takes a wait over that lasts; without it this process waits to the end.
    :param before: what came of the same wait before it was handed over.
    """

    store: Store
    fingerprint: str
    owner: Owner
    say: Callable[[str], None]
    hand_over: HandOver | None = None
    before: Wait = field(default_factory=Wait)

    def __post_init__(self) -> None:
        self._awaited = list(self.before.awaited)

    def take(self, *, until_commit: bool = True) -> Claim | Waited:
        """Return the claim, or that a holder has committed meanwhile.

        :param until_commit: whether a commit of a holder ends the wait; else only the claim does.
        :raises StepError: if a holder that was waited for failed.
        """
        started, pause = time.monotonic(), _FIRST_PAUSE
        watch = None
        while True:
            if self._awaited and (waited := self._ended(until_commit=until_commit)):
                return waited
            if claim := fingerprint_log.claim(self.store, self.fingerprint, self.owner):
                return self._unless_ended(claim, until_commit=until_commit)
            holder = self._log().holder
            if holder is None:
                continue
            if watch is None or watch.claim.id != holder.id:
                self._begin(holder)
                watch, pause = fingerprint_log.Watch(self.store, holder), _FIRST_PAUSE
            if (watch.expired() or self._has_expired(watch)) and (taken := self._take_over(holder)):
                return self._unless_ended(taken, until_commit=until_commit)
            if self.hand_over and time.monotonic() - started > PATIENCE:
                self.hand_over(holder, tuple(self._awaited))
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _log(self) -> Log:
        return fingerprint_log.Log.read(self.store, self.fingerprint)

    def _begin(self, holder: Claim) -> None:
        if holder.id not in self._awaited:
            self.say(f"waits for {describe(holder.owner)}, which began at {holder.time}")
            self._awaited.append(holder.id)

    def _has_expired(self, watch: fingerprint_log.Watch) -> bool:
        """Say whether whoever waited before has seen enough of a beat that is still the same."""
        return watch.claim.id == self.before.expired and watch.beat.hex() == self.before.beat

    def _take_over(self, holder: Claim) -> Claim | None:
        self.say(f"takes over from {describe(holder.owner)}, which has shown no sign of life")
        return fingerprint_log.take_over(self.store, self.fingerprint, holder, self.owner)

    def _unless_ended(self, claim: Claim, *, until_commit: bool) -> Claim | Waited:
        """Look again at how those that were waited for ended, now that nobody else can begin."""
        if not self._awaited:
            return claim
        try:
            waited = self._ended(until_commit=until_commit)
        except StepError:
            fingerprint_log.release(self.store, claim)
            raise
        if waited:
            fingerprint_log.release(self.store, claim)
        return waited or claim

    def _ended(self, *, until_commit: bool) -> Waited | None:
        log = self._log()
        if until_commit:
            for record in log.records:
                known = next((claim for claim in (record.published, record.claim) if claim in self._awaited), None)
                if known and (holder := log.claim_of(known)):
                    return Waited(holder.owner)
        for claim in self._awaited:
            if (error := log.failure(claim)) and (holder := log.claim_of(claim)):
                message = f"{describe(holder.owner)}, which this step waited for, failed: {error}"
                raise (CommandFailedError if log.failed_by_itself(claim) else StepError)(message)
        return None


@contextmanager
def held(store: Store, key: str, owner: Owner, say: Callable[[str], None]) -> Iterator[Claim]:
    """Hold the claim of something that is not a fingerprint (a destination) for the duration of a block."""
    claim = Turn(store, key, owner, say).take(until_commit=False)
    if isinstance(claim, Waited):
        message = f"the claim of {key} ended as a commit, which only a fingerprint's can"
        raise TypeError(message)
    with fingerprint_log.Beat(store, claim):
        try:
            yield claim
        finally:
            fingerprint_log.release(store, claim)


def describe(owner: Owner) -> str:
    """Return whose claim it is, as a person would look it up."""
    return f"{owner.pipeline} / {owner.run} / {owner.step}"
