"""What runs left and nobody needs any more: plans and notes, days of the journal, the rest of pipelines that are gone.

What still leads to a record stays whatever its age: the day on which a step was made or confirmed last, for whoever waits
for it, and the last run of its pipeline, for whoever asks why.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.resolving.leftovers import Leftover
from airflow_mlpipe.store import condemned, layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_mlpipe.resolving.inventory import Inventory
    from airflow_mlpipe.resolving.leftovers import Listing
    from airflow_mlpipe.resolving.referring import Referring
    from airflow_mlpipe.store.store import Store

OF_RUNS = frozenset({"runs", "journal", "pipelines"})
"""The kinds of leftovers that are looked for only where a policy says how long they stay."""

_DAY = timedelta(days=1)


def expired(
    store: Store, listing: Listing, inventory: Inventory, referring: Referring, age: timedelta
) -> Iterator[Leftover]:
    """Yield what runs left that ended longer ago than an age; nothing of those that are pinned or hold a claim."""
    runs, days = _leading(inventory)
    yield from _runs(store, listing, _silences(inventory, referring), referring.runs.keys() | runs, age)
    yield from _days(listing, days, age)
    yield from _pipelines(listing)


def _leading(inventory: Inventory) -> tuple[set[str], set[str]]:
    """Return the folders of runs and of days that lead to records that are there."""
    there = {(item.fingerprint, item.record.number) for item in inventory.items}
    runs: dict[str, str] = {}
    days: dict[tuple[str, str], str] = {}
    for entries in inventory.entries.values():
        for entry in entries:  # newest first
            for use in entry.uses:
                if (use.fingerprint, use.number) in there:
                    runs.setdefault(entry.pipeline, layout.run(entry.pipeline, entry.run))
                    days.setdefault((entry.pipeline, use.step), layout.journal_day(entry.pipeline, entry.time[:10]))
    return set(runs.values()), set(days.values())


def _silences(inventory: Inventory, referring: Referring) -> dict[str, timedelta]:
    """Return the time since each run gave its last sign, by folder, as far as its pin and the journal tell."""
    now = datetime.now(timezone.utc)
    found = {folder: silent for folder, silent in referring.silent.items() if silent != timedelta.max}
    for entries in inventory.entries.values():
        for entry in entries:
            folder = layout.run(entry.pipeline, entry.run)
            silent = now - datetime.fromisoformat(entry.time)
            found[folder] = min(silent, found.get(folder, silent))
    return found


def _runs(
    store: Store, listing: Listing, silences: dict[str, timedelta], kept: Iterable[str], age: timedelta
) -> Iterator[Leftover]:
    sizes = {f"{layout.RUNS}/{'/'.join(names)}": size for names, size in listing.below(layout.RUNS, 2).items()}
    for folder in kept:
        sizes.pop(folder, None)
    untold = {path for path in listing.files if (folder := _run_of(path)) in sizes and folder not in silences}
    for path, seconds in condemned.age_of(store, sorted(untold)).items():
        folder, silent = _run_of(path), timedelta(seconds=seconds)
        silences[folder] = min(silent, silences.get(folder, silent))
    for folder, size in sizes.items():
        if folder in silences and silences[folder] >= age:
            yield Leftover("runs", folder, size, f"the run gave its last sign {_ago(silences[folder])}")


def _run_of(path: str) -> str:
    return "/".join(path.split("/")[:3])


def _days(listing: Listing, kept: set[str], age: timedelta) -> Iterator[Leftover]:
    now = datetime.now(timezone.utc)
    for (pipeline, day), size in listing.below(layout.JOURNAL, 2).items():
        folder = f"{layout.JOURNAL}/{pipeline}/{day}"
        try:
            over = datetime.combine(date.fromisoformat(day), datetime.min.time(), timezone.utc) + _DAY
        except ValueError:  # nothing of ours
            continue
        if folder not in kept and now - over >= age:
            yield Leftover("journal", folder, size, f"that day was {_ago(now - over)}")


def _pipelines(listing: Listing) -> Iterator[Leftover]:
    """Yield what is kept for the next run of pipelines of which neither a run nor a day of the journal is left."""
    there = {names[0] for folder in (layout.RUNS, layout.JOURNAL) for names in listing.below(folder, 1)}
    for folder in (layout.LATEST, layout.COPIES):
        for (name,), size in listing.below(folder, 1).items():
            if name.removesuffix(layout.COPIES_END if folder == layout.COPIES else "") not in there:
                yield Leftover("pipelines", f"{folder}/{name}", size, "nothing else is left of its pipeline")


def _ago(age: timedelta) -> str:
    return f"{age.days} days ago" if age >= 2 * _DAY else f"{age.total_seconds() / 3600:.1f} h ago"
