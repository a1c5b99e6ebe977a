"""Whether the outputs of records are there and whole: by existence and size in bulk, by digest where asked for."""

from __future__ import annotations

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_object
from airflow_mlpipe.store.log import Log, void
from airflow_mlpipe.store.outputs import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_mlpipe.resolving.inventory import Item
    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.store import Store

_READERS = 4


@dataclass(frozen=True)
class Damage:
    """A record whose outputs are not what it says."""

    item: Item
    what: str


@dataclass(frozen=True)
class Verified:
    """How many records were looked at, how many of them by digest, and those that are damaged.

    ``elsewhere`` is how many have no outputs in the store: transfers, and those that were evicted.
    """

    records: int
    digests: int
    elsewhere: int
    damaged: tuple[Damage, ...]


def verify_outputs(
    store: Store, items: Iterable[Item], *, digests: bool = False, sample: int | None = None
) -> Verified:
    """Look at the outputs of records.

    :param digests: whether to read them and compare their digests.
    :param sample: how many records, chosen by chance, are read; all, if not given.
    """
    looked_at, elsewhere = [], 0
    for item in items:
        if item.record.evicted or not _in_store(item):
            elsewhere += 1
        else:
            looked_at.append(item)
    sizes = _sizes(store)
    damaged = {id(item): what for item in looked_at if (what := _missing(store, item, sizes))}
    whole = [item for item in looked_at if id(item) not in damaged]
    read = _chosen(whole, sample) if digests else []
    with ThreadPoolExecutor(_READERS) as pool:
        for item, what in zip(read, pool.map(lambda item: _changed(store, item), read), strict=True):
            if what:
                damaged[id(item)] = what
    found = tuple(Damage(item, damaged[id(item)]) for item in looked_at if id(item) in damaged)
    return Verified(len(looked_at), len(read), elsewhere, tuple(each for each in found if _still_counts(store, each)))


def void_damaged(store: Store, damaged: Iterable[Damage]) -> None:
    """Make damaged records count no more, with the reason."""
    for damage in damaged:
        void(store, damage.item.fingerprint, damage.item.record.number, damage.what)


def _in_store(item: Item) -> Mapping[str, OutputRef]:
    return {name: output for name, output in (item.outputs or {}).items() if output.token is None}


def _sizes(store: Store) -> dict[str, tuple[int, int]]:
    """Return files and bytes of every output that is there, by path; one listing."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for path, size in store.sizes(layout.OUTPUTS).items():
        if parts := layout.output_parts(f"{layout.OUTPUTS}/{path}"):
            place = layout.output(*parts)
            files, total = found[place]
            found[place] = (files + 1, total + size)
    return found


def _missing(store: Store, item: Item, sizes: Mapping[str, tuple[int, int]]) -> str | None:
    for name, output in _in_store(item).items():
        content = output.content
        as_listed = sizes.get(output.path, (0, 0))
        if as_listed != (content.files, content.size) and (what := verify(store, output.path, content)):
            return f"output {name}: {what}"
    return None


def _changed(store: Store, item: Item) -> str | None:
    for name, output in _in_store(item).items():
        if not output.content.files:  # of an empty folder some object stores know nothing
            continue
        try:
            found = digest_object(store.fs, store.full(output.path))
        except FileNotFoundError:
            return f"output {name}: it is gone"
        except DataError as error:
            return f"output {name}: {error}"
        if found.digest != output.content.digest:
            return f"output {name}: its content is not what was published"
    return None


def _chosen(items: Sequence[Item], sample: int | None) -> Sequence[Item]:
    if sample is None or sample >= len(items):
        return items
    return random.sample(items, sample)


def _still_counts(store: Store, damage: Damage) -> bool:
    """Say whether a record was not voided or evicted while it was looked at."""
    record = damage.item.record
    log = Log.read(store, record.fingerprint)
    return any(each.number == record.number and not each.evicted for each in log.records)
