"""What the steps of all runs came to, in the order of time: who waits for an output, or adds up what was saved, reads it.

One file for all steps a plan reused, and one for each step that ended in its turn; a folder for each day. Times are
those of the writer's clock: they order and date what happened, and nothing is ever excluded by them.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_mlpipe.store.store import Store

FORMAT = 1

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_BATCH = 64
"""How many entries of a day are read at once."""


@dataclass(frozen=True)
class Use:
    """How one step of a run ended.

    ``outcome`` is ``reused``, ``ran``, ``waited`` or ``failed``; ``fingerprint`` and ``number`` name the record
    (0 where there is none). ``seconds`` is what the command took when it ran, ``outputs`` are as records hold them.
    """

    step: str
    outcome: str
    fingerprint: str = ""
    number: int = 0
    seconds: float = 0.0
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """Steps of one run that ended together. ``time`` is ISO 8601 in UTC; ``moments`` are the ``run.*`` values."""

    pipeline: str
    run: str
    time: str
    moments: Mapping[str, str]
    uses: tuple[Use, ...]


def append(store: Store, pipeline: str, run: str, moments: Mapping[str, str], uses: Iterable[Use]) -> None:
    """Write down how steps of a run ended; nothing is written for none."""
    ended = [_plain(use) for use in uses]
    if not ended:
        return
    now = datetime.now(timezone.utc)
    body = {
        "format": FORMAT,
        "pipeline": pipeline,
        "run": run,
        "time": now.isoformat(timespec="microseconds"),
        "moments": dict(moments),
        "steps": ended,
    }
    path = layout.journal_entry(pipeline, f"{now:%Y-%m-%d}", f"{now:%H%M%S.%f}-{secrets.token_hex(4)}")
    store.write(path, json.dumps(body, ensure_ascii=False, allow_nan=False, sort_keys=True).encode())


def days(store: Store, pipeline: str) -> list[str]:
    """Return the days on which steps of a pipeline ended, ``2025-01-31``, sorted."""
    return [name for name in store.names(layout.journal(pipeline)) if _DAY.match(name)]


def names(store: Store, pipeline: str, day: str) -> list[str]:
    """Return the names of the entries of a day, in the order of time; one listing."""
    return [name for name in store.names(layout.journal_day(pipeline, day)) if not name.startswith(".")]


def read(store: Store, pipeline: str, day: str, names: Iterable[str]) -> list[Entry]:
    """Return entries of a day, in the order of their names; those that are gone or damaged are left out."""
    paths = [f"{layout.journal_day(pipeline, day)}/{name}" for name in sorted(names)]
    contents = store.read_all(paths)
    entries = (_load(store, path, contents[path]) for path in paths if path in contents)
    return [entry for entry in entries if entry is not None]


def newest_first(store: Store, pipeline: str, since: str = "") -> Iterator[Entry]:
    """Yield all entries from now back to a day, that day included.

    :param since: ``2025-01-31``; the beginning, if not given.
    """
    for day in reversed([day for day in days(store, pipeline) if day >= since]):
        ordered = names(store, pipeline, day)
        for end in range(len(ordered), 0, -_BATCH):
            yield from reversed(read(store, pipeline, day, ordered[max(0, end - _BATCH) : end]))


def _plain(use: Use) -> dict[str, Any]:
    return {name: value for name, value in use.__dict__.items() if value or name in {"step", "outcome"}}


def _load(store: Store, path: str, content: bytes) -> Entry | None:
    """Return an entry; None if it is damaged: it says nothing that counts for reuse."""
    try:
        data = json.loads(content)
        if data["format"] > FORMAT:
            message = (
                f"{store.uri(path)} has format {data['format']}, written by a newer airflow-mlpipe; "
                f"this one reads up to format {FORMAT}: upgrade it"
            )
            raise RecordFormatError(message)
        uses = tuple(Use(**item) for item in data["steps"])
        return Entry(data["pipeline"], data["run"], data["time"], data["moments"], uses)
    except (ValueError, KeyError, TypeError):
        return None
