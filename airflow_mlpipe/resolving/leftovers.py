"""What lies in a store and belongs to nobody: outputs without a record, old step directories, unused code, old runs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_mlpipe.resolving.referring import code_of
from airflow_mlpipe.store import condemned, layout
from airflow_mlpipe.store.exclusive import PROBE, is_aside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_mlpipe.resolving.inventory import Inventory
    from airflow_mlpipe.resolving.referring import Referring
    from airflow_mlpipe.store.entries import Log
    from airflow_mlpipe.store.store import Store

Kind: TypeAlias = Literal[
    "outputs", "unknown", "beats", "work", "snapshots", "runs", "journal", "pipelines", "temporary", "checkpoints"
]

LEAST: Mapping[Kind, timedelta] = {
    "unknown": timedelta(days=1),
    "work": timedelta(days=7),
    "temporary": timedelta(days=1),
}
"""How long some kinds stay at least, whatever grace time is asked for: a step that takes no claim may still run there."""

_FORGOTTEN = timedelta(days=7)
"""How long a checkpoint that nobody writes anew is kept for the next try of its step."""


@dataclass(frozen=True)
class Leftover:
    """Something to remove: the ``path`` of a file or folder, its bytes, and why nobody needs it."""

    kind: Kind
    path: str
    size: int
    why: str


HISTORY = (layout.RUNS, layout.JOURNAL, layout.LATEST, layout.COPIES)
"""The folders that tell of runs."""

_WRITTEN_ASIDE = (layout.LOG, layout.BEATS, layout.PINS, layout.CONDEMNED, layout.SNAPSHOTS, layout.DELIVERED, *HISTORY)
"""The folders in which files appear whole; those of outputs and steps go as a whole."""


@dataclass(frozen=True)
class Listing:
    """The files below the folders of a store that may have leftovers, with their bytes, by path below the root."""

    files: Mapping[str, int]

    @classmethod
    def read(cls, store: Store) -> Listing:
        """List a store. To be read before its logs: what is committed meanwhile is then no leftover."""
        folders = [layout.OUTPUTS, layout.BEATS, layout.SNAPSHOTS, layout.WORK, *HISTORY]
        return cls({f"{folder}/{path}": size for folder in folders for path, size in store.sizes(folder).items()})

    def below(self, folder: str, depth: int) -> dict[tuple[str, ...], int]:
        """Return the bytes below the paths so many names under a folder; files being written are left out."""
        found: dict[tuple[str, ...], int] = defaultdict(int)
        for path, size in self.files.items():
            top, *names = path.split("/")
            if top == folder and len(names) >= depth and not any(name.startswith(".") for name in names[:depth]):
                found[tuple(names[:depth])] += size
        return found


def leftovers(store: Store, listing: Listing, inventory: Inventory, referring: Referring) -> list[Leftover]:
    """Return what nobody needs now; it is to be removed only if that is still so a grace time later."""
    return [
        *_outputs(listing, inventory, referring),
        *_beats(listing, inventory),
        *_work(listing, inventory, referring),
        *(() if inventory.unreadable or referring.planning else _snapshots(store, listing, inventory, referring)),
    ]


def _outputs(listing: Listing, inventory: Inventory, referring: Referring) -> Iterator[Leftover]:
    finished = {parts for path in listing.files if (parts := layout.result_parts(path))}
    for (fingerprint, claim), size in listing.below(layout.OUTPUTS, 2).items():
        path = layout.outputs(fingerprint, claim)
        if fingerprint in inventory.unreadable or claim in referring.claims or referring.why(fingerprint, path):
            continue
        log = inventory.logs.get(fingerprint)
        if log is None:
            yield Leftover("unknown", path, size, "no record names it")
        elif (why := unneeded(log, claim, has_result=(fingerprint, claim) in finished)) is not None:
            known = any(entry.data.get("claim") == claim for entry in log.entries)
            yield Leftover("outputs" if known and not log.damaged else "unknown", path, size, why)


def unneeded(log: Log, claim: str, *, has_result: bool) -> str | None:
    """Return why nobody needs what was published under a claim, or None.

    :param has_result: whether it is known to be complete: then whoever holds the fingerprint may record it.
    """
    record = log.record_of(claim)
    if record is not None:
        return "its outputs were evicted" if record.evicted else None
    if log.holder is not None and (has_result or log.holder.id == claim):
        return None
    voids = {entry.data["void"]: str(entry.data.get("reason")) for entry in log.entries if entry.kind == "void"}
    commits = (entry for entry in log.entries if entry.kind == "commit")
    committed = [entry for entry in commits if claim in (entry.data["claim"], entry.data.get("adopted"))]
    reasons = [voids[entry.number] for entry in committed if entry.number in voids]
    if reasons:
        return f"its record was voided: {reasons[-1]}"
    return "its step ended without a record"


def _beats(listing: Listing, inventory: Inventory) -> Iterator[Leftover]:
    for (fingerprint, claim), size in listing.below(layout.BEATS, 2).items():
        log = inventory.logs.get(fingerprint)
        held = log is None or (log.holder is not None and log.holder.id == claim)
        if not held:
            yield Leftover("beats", layout.beat(fingerprint, claim), size, "its claim has ended")


def _work(listing: Listing, inventory: Inventory, referring: Referring) -> Iterator[Leftover]:
    claimed = {entry.data["claim"] for log in inventory.logs.values() for entry in log.entries if entry.kind == "claim"}
    for (claim,), size in listing.below(layout.WORK, 1).items():
        if claim in referring.claims or (claim not in claimed and referring.pipelines):
            continue
        yield Leftover("work", layout.work(claim), size, "the step that it was for has ended")


def _snapshots(store: Store, listing: Listing, inventory: Inventory, referring: Referring) -> Iterator[Leftover]:
    named = set(referring.snapshots) | _explaining(store)
    for item in inventory.items:
        named.update(code_of(item.record.body.get("spec", {})), code_of(item.record.body.get("components", {})))
    for (name,), size in listing.below(layout.SNAPSHOTS, 1).items():
        digest = layout.snapshot_digest(name)
        if digest is not None and digest not in named:
            yield Leftover("snapshots", f"{layout.SNAPSHOTS}/{name}", size, "no record and no run names it")


def temporaries(store: Store) -> Iterator[Leftover]:
    """Yield the files that somebody who was killed left before they had their names."""
    sizes = {name: 0 for name in store.names("") if name.startswith(PROBE)}
    for name in store.names(layout.CONDEMNED):
        if condemned.is_clock(name):
            sizes[f"{layout.CONDEMNED}/{name}"] = 0
    for folder in _WRITTEN_ASIDE if store.local_root else ():
        found = {path: size for path, size in store.sizes(folder).items() if is_aside(path.rpartition("/")[2])}
        sizes.update({f"{folder}/{path}": size for path, size in found.items()})
    for path, age in condemned.age_of(store, sizes).items():
        if age >= LEAST["temporary"].total_seconds():
            yield Leftover("temporary", path, sizes[path], "whoever wrote it was killed")


def forgotten_checkpoints(store: Store) -> Iterator[Leftover]:
    """Yield the checkpoints of steps that did not succeed, and have not been tried again for long."""
    below: dict[str, dict[str, int]] = defaultdict(dict)
    for path, size in store.sizes(layout.CHECKPOINTS).items():
        below[f"{layout.CHECKPOINTS}/{path.partition('/')[0]}"][f"{layout.CHECKPOINTS}/{path}"] = size
    ages = condemned.age_of(store, [path for files in below.values() for path in files])
    for folder, files in below.items():
        youngest = min((ages[path] for path in files if path in ages), default=0.0)
        if youngest >= _FORGOTTEN.total_seconds():
            yield Leftover("checkpoints", folder, sum(files.values()), "no try of its step has saved it for 7 days")


def _explaining(store: Store) -> set[str]:
    """Return the code that explanations compare with."""
    paths = [f"{layout.LATEST}/{path}" for path in store.sizes(layout.LATEST)]
    return {digest for content in store.read_all(paths).values() for digest in _compared(content)}


def _compared(latest: bytes) -> list[str]:
    try:
        return code_of(json.loads(latest)["components"])
    except (ValueError, KeyError, TypeError, AttributeError):  # it explains nothing then
        return []
