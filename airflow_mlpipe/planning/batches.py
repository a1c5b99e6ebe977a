"""How the files of a folder are dealt out to mini-batches, so that new files cost only themselves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.runtime.composite import BatchSpec
from airflow_mlpipe.store.digests import content_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_mlpipe.store.digests import Content


def deal(files: Mapping[str, tuple[str, int]], size: int, earlier: Iterable[BatchSpec] = ()) -> tuple[BatchSpec, ...]:
    """Return the mini-batches of a folder: those of the last time whose files are as they were, then new ones of the rest.

    :param files: digest and bytes of each file, by relative path.
    :param size: how many files a mini-batch has at most.
    :param earlier: the mini-batches of the last time.
    """
    left = dict(files)
    kept: list[BatchSpec] = []
    for batch in earlier:
        same = len(batch.files) <= size and all(name in left for name in batch.files)
        if same and _content(batch.files, files) == batch.content:
            kept.append(batch)
            for name in batch.files:
                del left[name]
    rest = sorted(left)
    fresh = (tuple(rest[start : start + size]) for start in range(0, len(rest), size))
    return (*kept, *(BatchSpec(names, _content(names, files)) for names in fresh))


def _content(names: Sequence[str], files: Mapping[str, tuple[str, int]]) -> Content:
    return content_of({name: files[name][0] for name in names}, sum(files[name][1] for name in names))
