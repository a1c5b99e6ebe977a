"""What the log of one fingerprint says: read once, then asked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.owner import Owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.store.copies import Copies
    from airflow_mlpipe.store.store import Store

FORMAT = 1
"""Of the entries. One of a newer format is refused by name."""

_SEAL = b', "checksum": "%s"'
_DIGITS = 32

_FIELDS: Mapping[str, Mapping[str, type]] = {
    "claim": {"claim": str, "owner": dict},
    "commit": {"claim": str, "body": dict},
    "void": {"void": int},
    "release": {"claim": str},
    "evict": {"evict": int},
    "move": {"claim": str, "owner": dict},
}


@dataclass(frozen=True)
class Claim:
    """The right to compute a fingerprint and to commit the outcome.

    ``number`` is that of its entry, ``time`` the ISO timestamp in UTC at which it began. ``lost`` are the claims before it
    that were lost without an outcome, newest first, as whoever made the claim knows them.
    """

    fingerprint: str
    id: str
    number: int
    owner: Owner
    time: str = ""
    lost: tuple[Claim, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Record:
    """A commit that counts. ``claim`` is the id of the claim that made it, ``time`` an ISO timestamp in UTC.

    The outputs of an ``evicted`` one were given up for their room; what it says of them still holds. ``adopted`` is the
    earlier claim whose holder had published its outputs and did not come to commit them; empty where it is the same.
    """

    fingerprint: str
    number: int
    claim: str
    body: Mapping[str, Any]
    time: str
    evicted: bool = False
    adopted: str = ""

    @property
    def published(self) -> str:
        """The claim under which its outputs were published."""
        return self.adopted or self.claim


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
        return cls.of(store, fingerprint, {number: contents.get(path, b"") for number, path in paths.items()})

    @classmethod
    def read_many(cls, copies: Copies, fingerprints: Iterable[str]) -> dict[str, Log]:
        """Return the logs of several fingerprints as they are now, from copies of their entries where there are any.

        :raises RecordFormatError: if a newer version wrote an entry.
        """
        store = copies.store
        folders = {layout.log_folder(fingerprint): fingerprint for fingerprint in fingerprints}
        found: dict[str, dict[int, str]] = {fingerprint: {} for fingerprint in folders.values()}
        versions = {}
        for folder, files in store.listings(folders).items():
            for name, listed in files.items():
                if (number := layout.entry_number(name)) is not None:
                    path = layout.log_entry(folders[folder], number)
                    found[folders[folder]][number], versions[path] = path, listed.version
        contents = copies.read_all(versions)
        return {
            fingerprint: cls.of(
                store, fingerprint, {number: contents.get(paths[number], b"") for number in sorted(paths)}
            )
            for fingerprint, paths in found.items()
        }

    @classmethod
    def of(cls, store: Store, fingerprint: str, contents: Mapping[int, bytes]) -> Log:
        """Return the log whose entries, in the order of their numbers, are these.

        :raises RecordFormatError: if a newer version wrote an entry.
        """
        uris = {number: store.uri(layout.log_entry(fingerprint, number)) for number in contents}
        parsed = {number: _parse(uris[number], content) for number, content in contents.items()}
        return cls(
            fingerprint,
            tuple(Entry(number, data["kind"], data["time"], data) for number, data in parsed.items() if data),
            tuple(number for number, data in parsed.items() if data is None),
            max(contents, default=0),
        )

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The commits that count, newest first: no later claim precedes them, and they are not voided."""
        voided = {entry.data["void"] for entry in self.entries if entry.kind == "void"}
        evicted = {entry.data["evict"] for entry in self.entries if entry.kind == "evict"}
        found: list[Record] = []
        last_claim = None
        for entry in self.entries:
            if entry.kind == "claim":
                last_claim = entry.data["claim"]
            elif entry.kind == "commit" and (entry.data.get("unclaimed") or entry.data["claim"] == last_claim):
                found.append(self._record(entry, evicted=entry.number in evicted))
        return tuple(record for record in reversed(found) if record.number not in voided)

    def _record(self, entry: Entry, *, evicted: bool) -> Record:
        data = entry.data
        adopted = str(data.get("adopted") or "")
        return Record(self.fingerprint, entry.number, data["claim"], data["body"], entry.time, evicted, adopted)

    @cached_property
    def last_claim(self) -> Claim | None:
        """The last claim, whatever became of it."""
        return next((self._claim(entry) for entry in reversed(self.entries) if entry.kind == "claim"), None)

    def _claim(self, entry: Entry) -> Claim:
        """Return a claim with its owner as it is now: it may have moved."""
        claim = entry.data["claim"]
        moves = (later for later in reversed(self.entries) if later.kind == "move" and later.data["claim"] == claim)
        owner = next(moves, entry).data["owner"]
        return Claim(self.fingerprint, claim, entry.number, Owner(**owner), entry.time)

    @cached_property
    def holder(self) -> Claim | None:
        """The last claim, unless it has committed or was released."""
        claim = self.last_claim
        ended = {entry.data["claim"] for entry in self.entries if entry.kind in {"commit", "release"}}
        return None if claim is None or claim.id in ended else claim

    @cached_property
    def unfinished(self) -> tuple[Claim, ...]:
        """The claims that have neither ended nor had their outcome recorded by others, newest first."""
        ended = {entry.data["claim"] for entry in self.entries if entry.kind in {"commit", "release"}}
        ended |= {entry.data.get("adopted") for entry in self.entries if entry.kind == "commit"}
        claims = (entry for entry in reversed(self.entries) if entry.kind == "claim")
        return tuple(self._claim(entry) for entry in claims if entry.data["claim"] not in ended)

    def claim_of(self, claim_id: str) -> Claim | None:
        """Return the claim with an id."""
        claims = (entry for entry in self.entries if entry.kind == "claim" and entry.data["claim"] == claim_id)
        return next(map(self._claim, claims), None)

    def record_of(self, claim_id: str) -> Record | None:
        """Return the newest record that a claim made, or that another made of what it had published."""
        return next((record for record in self.records if claim_id in (record.claim, record.adopted)), None)

    def commit_of(self, claim_id: str) -> Record | None:
        """Return the newest commit of a claim, or of what it had published, whether or not it counts still."""
        commits = (self._record(entry, evicted=False) for entry in reversed(self.entries) if entry.kind == "commit")
        return next((record for record in commits if claim_id in (record.claim, record.adopted)), None)

    def failure(self, claim_id: str) -> str | None:
        """Return the error with which a claim was released."""
        for entry in self.entries:
            if entry.kind == "release" and entry.data["claim"] == claim_id:
                error: str | None = entry.data.get("error")
                return error
        return None

    def failed_by_itself(self, claim_id: str) -> bool:
        """Say whether a claim was released because what it ran failed by itself."""
        ends = (entry.data for entry in self.entries if entry.kind == "release" and entry.data["claim"] == claim_id)
        return any(data.get("own") is True for data in ends)


def sealed(data: Mapping[str, Any]) -> bytes:
    """Return the bytes of an entry, which end in a checksum of all before it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
    return text[:-1] + _SEAL % _checksum(text) + b"}"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def _is_unbroken(content: bytes) -> bool:
    """Say whether a sealed entry is as it was written."""
    end = len(_SEAL % b"") + _DIGITS + 1
    text = content[:-end] + b"}"
    return content[-end:] == _SEAL % _checksum(text) + b"}"


def _parse(uri: str, content: bytes) -> dict[str, Any] | None:
    """Return the data of an entry; None if it is damaged. Those of earlier versions have no checksum."""
    try:
        data = json.loads(content)
    except ValueError:
        return None
    if isinstance(data, dict) and data.pop("checksum", None) is not None and not _is_unbroken(content):
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
