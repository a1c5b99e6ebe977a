"""One fingerprint, one runner: holds a claim while a step runs, and waits for whoever holds it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.store import log as fingerprint_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.store.log import Claim, Owner
    from airflow_mlpipe.store.store import Store

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True)
class Waited:
    """A wait that ended because the holder committed."""

    holder: Owner
    seconds: float


class Turn:
    """Takes the claim of one fingerprint, waiting in this process while somebody else holds it."""

    def __init__(self, store: Store, fingerprint: str, owner: Owner, say: Callable[[str], None]) -> None:
        self.store = store
        self.fingerprint = fingerprint
        self.owner = owner
        self.say = say

    def take(self, *, until_commit: bool = True) -> Claim | Waited:
        """Return the claim, or that a holder has committed meanwhile.

        :param until_commit: whether a commit of a holder ends the wait; else only the claim does.
        :raises StepError: if a holder that was waited for failed.
        """
        started = time.monotonic()
        awaited: dict[str, Claim] = {}
        pause = _FIRST_PAUSE
        while True:
            if claim := fingerprint_log.claim(self.store, self.fingerprint, self.owner):
                return self._after(awaited, claim, started, until_commit=until_commit) if awaited else claim
            holder = fingerprint_log.Log.read(self.store, self.fingerprint).holder
            if holder is None:
                continue
            if holder.id not in awaited:
                self.say(f"waits for {describe(holder.owner)}")
                awaited[holder.id], pause = holder, _FIRST_PAUSE
                watch = fingerprint_log.Watch(self.store, holder)
            if watch.expired() and (taken := self._take_over(holder)):
                return taken
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _take_over(self, holder: Claim) -> Claim | None:
        self.say(f"takes over from {describe(holder.owner)}, which has shown no sign of life")
        return fingerprint_log.take_over(self.store, self.fingerprint, holder, self.owner)

    def _after(
        self, awaited: Mapping[str, Claim], claim: Claim, started: float, *, until_commit: bool
    ) -> Claim | Waited:
        """Look at how those that were waited for ended, now that the claim is ours."""
        log = fingerprint_log.Log.read(self.store, self.fingerprint)
        if until_commit:
            for record in log.records:
                if holder := awaited.get(record.claim):
                    fingerprint_log.release(self.store, claim)
                    return Waited(holder.owner, time.monotonic() - started)
        for holder in awaited.values():
            if error := log.failure(holder.id):
                fingerprint_log.release(self.store, claim)
                message = f"{describe(holder.owner)}, which this step waited for, failed: {error}"
                raise StepError(message)
        return claim


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
