"""What the log of one fingerprint says: read once, then asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.store.store import Store

FORMAT = 1
"""Of the entries. One of a newer format is refused by name."""

_FIELDS: Mapping[str, Mapping[str, type]] = {
    "claim": {"claim": str, "owner": dict},
    "commit": {"claim": str, "body": dict},
    "void": {"void": int},
    "release": {"claim": str},
}


@dataclass(frozen=True)
class Claim:
    """The right to compute a fingerprint and to commit the outcome; ``number`` is that of its entry."""

    fingerprint: str
    id: str
    number: int
    owner: Owner


@dataclass(frozen=True)
class Record:
    """A commit that counts. ``claim`` is the id of the claim that made it, ``time`` an ISO timestamp in UTC."""

    fingerprint: str
    number: int
    claim: str
    body: Mapping[str, Any]
    time: str


@dataclass(frozen=True)
class Entry:
    """One entry as it was written."""

    number: int
    kind: str
    time: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Log:
    """All entries of one fingerprint in order, up to the number ``last``.

    ``damaged`` are the numbers of entries that cannot be read; they count for nothing but keep their number.
    """

    fingerprint: str
    entries: tuple[Entry, ...]
    damaged: tuple[int, ...] = ()
    last: int = 0

    @classmethod
    def read(cls, store: Store, fingerprint: str) -> Log:
        """Return the log of a fingerprint as it is now; an unknown fingerprint has an empty one.

        :raises RecordFormatError: if a newer version wrote an entry.
        """
        names = store.names(layout.log_folder(fingerprint))
        numbers = sorted(number for name in names if (number := layout.entry_number(name)) is not None)
        paths = {number: layout.log_entry(fingerprint, number) for number in numbers}
        contents = store.read_all(paths.values())
        parsed = {number: _parse(store.uri(path), contents.get(path, b"")) for number, path in paths.items()}
        return cls(
            fingerprint,
            tuple(Entry(number, data["kind"], data["time"], data) for number, data in parsed.items() if data),
            tuple(number for number, data in parsed.items() if data is None),
            numbers[-1] if numbers else 0,
        )

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The commits that count, newest first: no later claim precedes them, and they are not voided."""
        voided = {entry.data["void"] for entry in self.entries if entry.kind == "void"}
        found: list[Record] = []
        last_claim = None
        for entry in self.entries:
            if entry.kind == "claim":
                last_claim = entry.data["claim"]
            elif entry.kind == "commit" and (entry.data.get("unclaimed") or entry.data["claim"] == last_claim):
                found.append(self._record(entry))
        return tuple(record for record in reversed(found) if record.number not in voided)

    def _record(self, entry: Entry) -> Record:
        return Record(self.fingerprint, entry.number, entry.data["claim"], entry.data["body"], entry.time)

    @cached_property
    def last_claim(self) -> Claim | None:
        """The last claim, whatever became of it."""
        for entry in reversed(self.entries):
            if entry.kind == "claim":
                owner = Owner(**entry.data["owner"])
                return Claim(self.fingerprint, entry.data["claim"], entry.number, owner)
        return None

    @cached_property
    def holder(self) -> Claim | None:
        """The last claim, unless it has committed or was released."""
        claim = self.last_claim
        ended = {entry.data["claim"] for entry in self.entries if entry.kind in {"commit", "release"}}
        return None if claim is None or claim.id in ended else claim

    def record_of(self, claim_id: str) -> Record | None:
        """Return the newest record that a claim made."""
        return next((record for record in self.records if record.claim == claim_id), None)

    def failure(self, claim_id: str) -> str | None:
        """Return the error with which a claim was released."""
        for entry in self.entries:
            if entry.kind == "release" and entry.data["claim"] == claim_id:
                error: str | None = entry.data.get("error")
                return error
        return None


def _parse(uri: str, content: bytes) -> dict[str, Any] | None:
    """Return the data of an entry; None if it is damaged."""
    try:
        data = json.loads(content)
    except ValueError:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        return None
    if data["format"] > FORMAT:
        message = (
            f"{uri} has format {data['format']}, written by a newer airflow-mlpipe; "
            f"this one reads up to format {FORMAT}: upgrade it"
        )
        raise RecordFormatError(message)
    return data if _is_whole(data) else None


def _is_whole(data: Mapping[str, Any]) -> bool:
    wanted = _FIELDS.get(str(data.get("kind")))
    if wanted is None or not isinstance(data.get("time"), str):
        return False
    if not all(isinstance(data.get(name), kind) for name, kind in wanted.items()):
        return False
    return "owner" not in wanted or data["owner"].keys() == Owner.__dataclass_fields__.keys()
