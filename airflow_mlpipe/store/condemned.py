"""What retention found to be nobody's, written down; it goes if it is still nobody's a grace time later.

How long ago that was is told by the clock of the store alone: clocks of machines are never compared.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.store import layout
from airflow_mlpipe.store.attempts import attempt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_mlpipe.store.store import Store

_CLOCK = "now-"


@dataclass(frozen=True)
class Condemned:
    """A list of paths that was written ``age`` seconds ago. ``kind`` is what they have in common."""

    name: str
    kind: str
    age: float
    paths: tuple[str, ...]


def write(store: Store, kind: str, paths: Iterable[str]) -> None:
    """Write down what is to go; nothing is written for no paths."""
    listed = sorted(paths)
    if listed:
        content = json.dumps({"kind": kind, "paths": listed}, ensure_ascii=False).encode()
        store.write(layout.condemned(f"{kind}-{secrets.token_hex(8)}"), content)


def read(store: Store) -> list[Condemned]:
    """Return all lists; one that cannot be read is left out: what was on it is found again."""
    names = [name.removesuffix(".json") for name in store.names(layout.CONDEMNED) if name.endswith(".json")]
    names = [name for name in names if not is_clock(name) and not name.startswith(".")]
    if not names:
        return []
    now = _now(store)
    found = []
    for name in names:
        with suppress(FileNotFoundError, ValueError, KeyError):
            path = layout.condemned(name)
            data = json.loads(store.read(path))
            age = max(0.0, (now - modified(store, path)).total_seconds())
            found.append(Condemned(name, data["kind"], age, tuple(data["paths"])))
    return found


def remove(store: Store, name: str) -> None:
    """Remove a list."""
    store.remove(layout.condemned(name))


def is_clock(name: str) -> bool:
    """Say whether a file among the lists is none, but was written to ask the store for the time."""
    return name.startswith(_CLOCK)


def modified(store: Store, path: str) -> datetime:
    """Return when a file was written, by the clock of the store.

    :raises FileNotFoundError: if it does not exist.
    """
    full = store.full(path)
    moment: datetime = attempt(store.url, f"look up {path}", lambda: store.fs.modified(full))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def age_of(store: Store, paths: Iterable[str]) -> dict[str, float]:
    """Return how many seconds ago files were written; those that do not exist are left out."""
    wanted = list(paths)
    if not wanted:
        return {}
    now = _now(store)
    ages = {}
    for path in wanted:
        with suppress(FileNotFoundError):
            ages[path] = max(0.0, (now - modified(store, path)).total_seconds())
    return ages


def _now(store: Store) -> datetime:
    """Return the time that the store has."""
    path = layout.condemned(f"{_CLOCK}{secrets.token_hex(8)}")
    store.write(path, b"{}")
    try:
        return modified(store, path)
    finally:
        store.remove(path)
