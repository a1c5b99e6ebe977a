"""Telling whether a command wrote into its inputs, without reading them again."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Signature: TypeAlias = tuple[int, int, int, int, int]
"""Size, modification time, change time, inode and mode; no change time where other links change it, too."""


def signatures(folder: Path) -> dict[str, Signature]:
    """Return the signature of every file and folder below a folder, by relative path."""
    root = os.fspath(folder)
    return {os.path.relpath(path, root): _signature(status) for path, status in _walk(root)}


def signature(name: str, path: Path) -> dict[str, Signature]:
    """Return the signature of one file under a name; nothing if it is gone."""
    try:
        return {name: _signature(path.lstat())}
    except FileNotFoundError:
        return {}


def is_shared(found: Signature) -> bool:
    """Say whether a file had other names: what is written into it is written into them."""
    return found[2] == 0 and stat.S_ISREG(found[4])


def changes(before: dict[str, Signature], after: dict[str, Signature]) -> list[str]:
    """Return what differs, in words, folders last since they only follow from their files."""
    found = [f"{path} was removed" for path in before.keys() - after.keys()]
    found += [f"{path} was added" for path in after.keys() - before.keys()]
    common = before.keys() & after.keys()
    found += [f"{path} was changed" for path in common if not _same(before[path], after[path])]
    return sorted(found)


def _same(before: Signature, after: Signature) -> bool:
    if stat.S_ISDIR(before[4]) and stat.S_ISDIR(after[4]):
        return True  # what happened in it is seen by itself
    linked = 0 in (before[2], after[2])
    return before == after or (linked and (*before[:2], *before[3:]) == (*after[:2], *after[3:]))


def _signature(status: os.stat_result) -> Signature:
    change = status.st_ctime_ns if status.st_nlink == 1 else 0
    return status.st_size, status.st_mtime_ns, change, status.st_ino, status.st_mode


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
