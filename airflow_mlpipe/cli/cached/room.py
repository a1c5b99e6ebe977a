"""Room: what takes up how much of it, and what pruning gives back."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.cached.records import SHORT, SIZE, STEP, USED, groups, record
from airflow_mlpipe.cli.table import Column, duration, moment, plural, size, write_table
from airflow_mlpipe.resolving.leftovers import HISTORY
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from airflow_mlpipe.resolving.leftovers import Leftover, Listing
    from airflow_mlpipe.resolving.retention import Choice, Guard, Policy, Pruning, Survey

_WHY = Column("why", wraps=True)


def usage(survey: Survey) -> dict[str, Any]:
    """Return what takes up how much room."""
    rows = [row for row in groups(survey.inventory.items) if row["size"]]
    kept = ("pipeline", "step", "records", "size")
    left = sorted(survey.leftovers, key=lambda leftover: leftover.kind)
    return {
        "steps": [
            {name: row[name] for name in kept} for row in sorted(rows, key=lambda row: row["size"], reverse=True)
        ],
        "leftovers": [
            {"kind": kind, "count": len(found), "size": sum(each.size for each in found)}
            for kind, found in ((kind, list(group)) for kind, group in groupby(left, lambda each: each.kind))
        ],
        "runs": {"count": len(survey.listing.below(layout.RUNS, 2)), "size": _below(survey.listing, HISTORY)},
        "size": sum(survey.listing.files.values()),
    }


def _below(listing: Listing, folders: Sequence[str]) -> int:
    return sum(size for folder in folders for size in listing.below(folder, 1).values())


_LEFTOVERS = {
    "outputs": "outputs whose record was voided, evicted or never made",
    "unknown": "outputs that no log knows of",
    "beats": "signs of life of claims that have ended",
    "work": "directories of steps that have ended",
    "snapshots": "code and locks that no record and no run names",
    "runs": "plans and notes of old runs",
    "journal": "old days of the journal",
    "pipelines": "what is kept for pipelines that are gone",
    "temporary": "files that somebody who was killed was writing",
    "checkpoints": "checkpoints of steps that nobody tries any more",
}


def write_usage(data: Mapping[str, Any]) -> None:
    """Write what takes up how much room."""
    rows = [[f"{row['pipeline']}.{row['step']}", str(row["records"]), size(row["size"])] for row in data["steps"]]
    rows += [[_LEFTOVERS[row["kind"]], str(row["count"]), size(row["size"])] for row in data["leftovers"]]
    rows.append(["plans, notes and journal of runs", str(data["runs"]["count"]), size(data["runs"]["size"])])
    write_table([Column("what", wraps=True), Column("number", right=True), SIZE], rows)
    sys.stdout.write(f"\n{size(data['size'])} altogether, with code, and steps that run\n")


def pruning_to_json(pruning: Pruning, *, done: bool) -> dict[str, Any]:
    """Return what goes, what is kept though the policy names it, and what is removed now or next time."""
    return {
        "done": done,
        "records": [{**record(choice.item), "why": choice.why} for choice in pruning.going],
        "kept": [{**record(choice.item), "why": choice.why, "kept": choice.kept} for choice in pruning.kept],
        "removed": [vars(leftover) for leftover in pruning.removed],
        "leftovers": [vars(leftover) for leftover in pruning.condemned],
        "unreadable": list(pruning.unreadable),
    }


def write_pruning(pruning: Pruning, policy: Policy, guard: Guard, *, done: bool) -> None:
    """Write what goes and why, and what comes next."""
    if pruning.going:
        write_table([STEP, Column("record"), SIZE, USED, _WHY], map(_choice, pruning.going))
        sys.stdout.write("\n")
    if pruning.kept:
        columns = [Column("kept", wraps=True), Column("record"), _WHY]
        rows = [[choice.item.name, choice.item.fingerprint[:SHORT], str(choice.kept)] for choice in pruning.kept]
        write_table(columns, rows)
        sys.stdout.write("\n")
    sys.stdout.write("\n".join(_sums(pruning, policy, guard, done=done)) + "\n")


def write_abandoned(folders: Sequence[Path], *, done: bool) -> None:
    """Write which step directories of killed processes lie among the temporary files of this machine."""
    for folder in folders:
        verb = "removed" if done else "would be removed"
        sys.stdout.write(f"{folder} {verb}: the step's process was killed\n")


def _choice(choice: Choice) -> list[str]:
    item = choice.item
    return [item.name, item.fingerprint[:SHORT], size(item.size), moment(item.last_used), choice.why]


def _sums(pruning: Pruning, policy: Policy, guard: Guard, *, done: bool) -> Iterator[str]:
    going = sum(choice.item.size for choice in pruning.going)
    verb = "evicted" if policy.evict else "voided"
    would = "" if done else "would be "
    yield f"{plural(len(pruning.going), 'record')} {would}{verb}, {size(going)}"
    if pruning.kept:
        yield f"{plural(len(pruning.kept), 'record')} stay, since somebody refers to them"
    yield f"{_amount(pruning.removed)} {would}removed, which nobody has needed for the grace time"
    yield from _kinds(pruning.removed)
    if pruning.condemned:
        yield f"{_amount(pruning.condemned)} nobody needs now; they go if that is still so later"
        yield from _kinds(pruning.condemned)
    yield from pruning.unreadable
    if not done:
        yield "nothing was changed: give --yes to do it"
    elif (pruning.going or pruning.condemned) and guard.grace:
        yield f"prune again in {duration(guard.grace.total_seconds())} or later to have the room"


def _kinds(found: Sequence[Leftover]) -> Iterator[str]:
    """Yield how many of each kind there are, and their bytes."""
    for kind, those in groupby(sorted(found, key=lambda each: each.kind), key=lambda each: each.kind):
        sizes = [each.size for each in those]
        yield f"  {len(sizes)} x {_LEFTOVERS[kind]}, {size(sum(sizes))}"


def _amount(found: Sequence[Leftover]) -> str:
    return f"{plural(len(found), 'leftover')}, {size(sum(each.size for each in found))},"
