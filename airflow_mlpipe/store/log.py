"""The log of one fingerprint: who computes it, and what was computed.

Entries are numbered files, each created exclusively after reading all before it, so every entry was written by
somebody who knew everything before it:

- ``claim``: somebody begins to compute. The last claim holds, unless it committed or was released.
- ``commit``: the outcome of a claim. It counts only if no later claim precedes it, so a late writer is fenced off.
- ``void``: a commit that no longer counts, because what it names is damaged or gone.
- ``evict``: a commit whose outputs were given up for their room; it counts, and says what they were.
- ``release``: a claim that ended without an outcome, with its error if it had one.
- ``move``: a claim that goes on elsewhere: its worker has left what it began, or another has come back to it.

A commit may name another claim as ``adopted``: what that one had published when it was lost is the outcome.

The newest commit that counts is the record.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import asdict, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import ClaimLostError, StoreError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.beat import Beat, Watch
from airflow_mlpipe.store.entries import FORMAT, Claim, Entry, Log, Record, sealed
from airflow_mlpipe.store.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.store.store import Store

__all__ = [
    "Beat",
    "Claim",
    "Log",
    "Owner",
    "Record",
    "Watch",
    "claim",
    "commit",
    "commit_unclaimed",
    "evict",
    "move",
    "release",
    "take_over",
    "void",
]

_ATTEMPTS = 1000
"""Lost races for one entry after which something else must be wrong."""


def claim(store: Store, fingerprint: str, owner: Owner) -> Claim | None:
    """Claim a fingerprint; return None if somebody else holds it (see ``Log.holder``).

    An earlier try of the same task instance, and a holder whose process is known to have ended, do not count.
    """

    def is_free(log: Log) -> bool:
        holder = log.holder
        return holder is None or holder.owner.is_superseded_by(owner) or holder.owner.is_dead()

    return _claim(store, fingerprint, owner, is_free)


def take_over(store: Store, fingerprint: str, holder: Claim, owner: Owner) -> Claim | None:
    """Claim a fingerprint from a holder who shows no sign of life; return None if it is no longer the holder."""
    return _claim(store, fingerprint, owner, lambda log: log.holder is not None and log.holder.id == holder.id)


def commit(store: Store, claim: Claim, body: Mapping[str, Any], adopted: str = "") -> Record:
    """Record the outcome of a claim. A claim whose outcome is recorded already gets that record, whoever made it.

    :param adopted: the earlier claim under which the outcome was published, if it was that.
    :raises ClaimLostError: if somebody else has claimed the fingerprint meanwhile; nothing is recorded.
    """

    def check(log: Log) -> None:
        last = log.last_claim
        if last is None or last.id != claim.id:
            raise _lost(claim, last)

    data = {"claim": claim.id, "body": dict(body)}
    return _commit(store, claim.fingerprint, data | {"adopted": adopted} if adopted else data, check)


def move(store: Store, claim: Claim, owner: Owner) -> Claim:
    """Say that a claim goes on elsewhere; return it as it is now.

    :param owner: who holds it from now on.
    :raises ClaimLostError: if it has ended, or somebody else has claimed the fingerprint meanwhile.
    """

    def decide(log: Log) -> dict[str, Any]:
        if log.holder is None or log.holder.id != claim.id:
            raise _lost(claim, log.last_claim)
        return {"kind": "move", "claim": claim.id, "owner": asdict(owner)}

    _append(store, claim.fingerprint, decide)
    return replace(claim, owner=owner)


def commit_unclaimed(store: Store, fingerprint: str, claim_id: str, body: Mapping[str, Any]) -> Record:
    """Record an outcome that nobody had to claim; it counts whatever others do.

    :param claim_id: under which the outputs were published.
    """
    data = {"claim": claim_id, "body": dict(body), "unclaimed": True}
    return _commit(store, fingerprint, data, lambda _: None)


def void(store: Store, fingerprint: str, number: int, reason: str) -> None:
    """Make a commit count no more; one that does not count already is left as it is."""

    def decide(log: Log) -> dict[str, Any] | None:
        counts = any(record.number == number for record in log.records)
        return {"kind": "void", "void": number, "reason": reason} if counts else None

    _append(store, fingerprint, decide)


def evict(store: Store, fingerprint: str, number: int, reason: str) -> None:
    """Give up the outputs of a commit; one that does not count, or has given them up, is left as it is."""

    def decide(log: Log) -> dict[str, Any] | None:
        holds = any(record.number == number and not record.evicted for record in log.records)
        return {"kind": "evict", "evict": number, "reason": reason} if holds else None

    _append(store, fingerprint, decide)


def release(store: Store, claim: Claim, error: str | None = None, *, own: bool = False) -> None:
    """Give a claim back without an outcome; one that has ended already is left as it is.

    :param error: why there is no outcome; whoever waits for it now fails with it.
    :param own: whether what it ran failed by itself.
    """
    fault = {"own": True} if own else {}

    def decide(log: Log) -> dict[str, Any] | None:
        holds = log.holder is not None and log.holder.id == claim.id
        return {"kind": "release", "claim": claim.id, "error": error, **fault} if holds else None

    _append(store, claim.fingerprint, decide)


def _claim(store: Store, fingerprint: str, owner: Owner, is_free: Callable[[Log], bool]) -> Claim | None:
    data = {"kind": "claim", "claim": uuid.uuid4().hex, "owner": asdict(owner)}
    lost: tuple[Claim, ...] = ()

    def decide(log: Log) -> dict[str, Any] | None:
        nonlocal lost
        lost = log.unfinished
        return data if is_free(log) else None

    entry = _append(store, fingerprint, decide)
    return Claim(fingerprint, str(data["claim"]), entry.number, owner, entry.time, lost) if entry else None


def _commit(store: Store, fingerprint: str, data: Mapping[str, Any], check: Callable[[Log], None]) -> Record:
    earlier: list[Record] = []

    def decide(log: Log) -> dict[str, Any] | None:
        if record := log.record_of(data["claim"]):
            earlier.append(record)
            return None
        check(log)
        return {"kind": "commit", **data}

    entry = _append(store, fingerprint, decide)
    if entry is None:
        return earlier[0]
    return Record(fingerprint, entry.number, data["claim"], data["body"], entry.time, adopted=data.get("adopted", ""))


def _append(store: Store, fingerprint: str, decide: Callable[[Log], Mapping[str, Any] | None]) -> Entry | None:
    """Append the entry that follows from all entries before it; None if none does."""
    for _ in range(_ATTEMPTS):
        log = Log.read(store, fingerprint)
        data = decide(log)
        if data is None:
            return None
        number = log.last + 1
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        written = {"format": FORMAT, "number": number, "time": now, "writer": secrets.token_hex(8), **data}
        if store.create(layout.log_entry(fingerprint, number), sealed(written)):
            return Entry(number, str(data["kind"]), now, data)
    message = (
        f"no entry could be added to {store.uri(layout.log_folder(fingerprint))} in {_ATTEMPTS} tries; "
        "see whether its listing shows all files"
    )
    raise StoreError(message)


def _lost(claim: Claim, last: Claim | None) -> ClaimLostError:
    if last and claim.owner.is_superseded_by(last.owner):
        message = (
            f"a later try of this task has claimed fingerprint {claim.fingerprint}; what this one made is not recorded"
        )
        return ClaimLostError(message, by_later_try=True)
    if last and last.id == claim.id:
        message = (
            f"the claim of fingerprint {claim.fingerprint} was given back meanwhile; clear the task to run it again"
        )
        return ClaimLostError(message)
    by = f"{last.owner.pipeline} / {last.owner.run} / {last.owner.step}" if last else "nobody, its log is gone"
    message = (
        f"the claim of fingerprint {claim.fingerprint} was taken over by {by}, since it showed no sign of life; "
        "what this step made is not recorded: run it again, it will reuse what the other made"
    )
    return ClaimLostError(message)
