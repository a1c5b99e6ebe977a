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


def signatures_at(place: Path) -> dict[str, Signature]:
    """Return the same of a folder, or of a single file under an empty path; nothing if it is gone."""
    try:
        return signatures(place)
    except NotADirectoryError:
        return signature("", place)
    except FileNotFoundError:
        return {}


def without_change_times(found: dict[str, Signature]) -> dict[str, Signature]:
    """Return signatures that a link made or removed meanwhile, which changes the change time only, leaves as they are."""
    return {path: (size, modified, 0, inode, mode) for path, (size, modified, _, inode, mode) in found.items()}


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
    """Return what differs, in words, by path."""
    return [f"{path} {what}" for path, what in differences(before, after).items()]


def differences(before: dict[str, Signature], after: dict[str, Signature]) -> dict[str, str]:
    """Return what happened to which path, sorted; of folders only that they are gone or new."""
    found = dict.fromkeys(before.keys() - after.keys(), "was removed")
    found |= dict.fromkeys(after.keys() - before.keys(), "was added")
    common = before.keys() & after.keys()
    found |= {path: "was changed" for path in common if not _same(before[path], after[path])}
    return dict(sorted(found.items()))


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
