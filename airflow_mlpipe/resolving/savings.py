"""What reuse has saved: the measured time of each record that a step took in place of running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_mlpipe.store import journal, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_mlpipe.store.journal import Entry, Use
    from airflow_mlpipe.store.store import Store

By: TypeAlias = Literal["run", "step", "pipeline", "month"]

_TAKEN = frozenset({"reused", "waited"})


@dataclass(frozen=True)
class Saved:
    """One line of the ledger: ``reused`` steps took a record that had cost ``seconds`` together, ``ran`` steps ran."""

    name: str
    reused: int
    seconds: float
    ran: int


def savings(store: Store, by: By = "pipeline", since: str = "") -> list[Saved]:
    """Return what was saved, the newest runs and months last.

    :param since: a day, ``2025-01-31``; what ended before it is left out.
    """
    entries = (entry for name in runs.pipelines(store) for entry in journal.newest_first(store, name, since))
    return add_up(entries, by)


def add_up(entries: Iterable[Entry], by: By) -> list[Saved]:
    """Add up entries, of each pipeline newest first; pure."""
    lines: dict[str, Saved] = {}
    for entry, use in _last_of_each_step(entries):
        name = _name(entry, use, by)
        line = lines.get(name, Saved(name, 0, 0.0, 0))
        taken = use.outcome in _TAKEN
        if use.outcome == "waited" and not use.seconds:  # a sensor, which would not have run in its stead
            continue
        lines[name] = Saved(
            name,
            line.reused + taken,
            line.seconds + (use.seconds if taken else 0.0),
            line.ran + (use.outcome == "ran"),
        )
    ordered = list(reversed(lines.values())) if by == "run" else sorted(lines.values(), key=lambda line: line.name)
    return [line for line in ordered if line.reused or line.ran]


def _last_of_each_step(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Use]]:
    """Yield how each step of each run ended in the end: a retry, or its turn after the plan, replaces what was before."""
    seen = set()
    for entry in entries:
        for use in entry.uses:
            key = (entry.pipeline, entry.run, use.step)
            if key not in seen:
                seen.add(key)
                yield entry, use


def _name(entry: Entry, use: Use, by: By) -> str:
    match by:
        case "run":
            return f"{entry.pipeline} / {entry.run}"
        case "step":
            return f"{entry.pipeline}.{use.step}"
        case "pipeline":
            return entry.pipeline
        case "month":
            return entry.time[:7]
