"""What of a local file or folder is data: its files by relative path (NFC, with ``/``) and nothing else.

A link that stays inside is followed; one that leaves, and everything that is neither file nor folder, is refused by
name. Modes, times and empty folders are no data.
"""

# ruff: noqa: PTH114, PTH116 -- Path is slow here

from __future__ import annotations

import os
import stat
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from airflow_mlpipe.exceptions import DataChangedError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class TreeFile(NamedTuple):
    """One file: where it lies, what it is, and whether a link on the way led there."""

    path: str
    status: os.stat_result
    linked: bool


def files_of(root: str) -> dict[str, TreeFile]:
    """Return every file of a folder by relative path, or a single file as ``{"": file}``.

    :raises FileNotFoundError: if there is nothing.
    :raises DataError: if something in it is no data: see above.
    :raises DataChangedError: if a file vanishes meanwhile.
    """
    status = os.stat(root)
    if not stat.S_ISDIR(status.st_mode):
        _check(root, status)
        return {"": TreeFile(root, status, linked=os.path.islink(root))}
    found: dict[str, TreeFile] = {}
    for relative, file in _Walk(root).folder(root, "", linked=False):
        path = _normal(relative, root)
        if path in found:
            raise DataError(_collision(path, root))
        found[path] = file
    return found


class _Walk:
    """One walk through a folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.above = [os.path.realpath(root)]
        """The real paths of the folder at hand and of those above it."""

    def folder(self, folder: str, prefix: str, *, linked: bool) -> Iterator[tuple[str, TreeFile]]:
        """Yield the files below a folder."""
        for entry in self._entries(folder):
            if entry.is_symlink():
                yield from self._link(entry.path, prefix + entry.name)
            elif entry.is_dir(follow_symlinks=False):
                yield from self._inside(entry.path, f"{self.above[-1]}/{entry.name}", prefix + entry.name, linked)
            else:
                status = self._status(entry)
                if not stat.S_ISREG(status.st_mode):
                    _check(entry.path, status)
                yield prefix + entry.name, TreeFile(entry.path, status, linked)

    def _inside(self, path: str, real: str, relative: str, linked: bool) -> Iterator[tuple[str, TreeFile]]:  # noqa: FBT001
        self.above.append(real)
        yield from self.folder(path, relative + "/", linked=linked)
        self.above.pop()

    def _link(self, path: str, relative: str) -> Iterator[tuple[str, TreeFile]]:
        real = os.path.realpath(path)
        if not real.startswith(self.above[0] + "/") and real != self.above[0]:
            message = f"{path!r} is a link that leaves {self.root!r} (to {real!r}); copy what it leads to, or remove it"
            raise DataError(message)
        try:
            status = os.stat(real)
        except OSError as error:
            message = f"{path!r} is a link that leads nowhere ({error.strerror}); remove it"
            raise DataError(message) from error
        if not stat.S_ISDIR(status.st_mode):
            _check(path, status)
            yield relative, TreeFile(path, status, linked=True)
        elif real in self.above:
            message = f"{path!r} is a link to a folder that contains it; remove it"
            raise DataError(message)
        else:
            yield from self._inside(path, real, relative, linked=True)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError as error:
            raise vanished(folder) from error
        except OSError as error:
            raise unreadable(folder, error) from error

    def _status(self, entry: os.DirEntry[str]) -> os.stat_result:
        try:
            return entry.stat(follow_symlinks=False)
        except FileNotFoundError as error:
            raise vanished(entry.path) from error
        except OSError as error:
            raise unreadable(entry.path, error) from error


def vanished(path: str) -> DataChangedError:
    """Return the error for what went away while it was looked at."""
    return DataChangedError(f"{path!r} was removed while it was read; run again when nobody changes it")


def unreadable(path: str, error: OSError) -> DataError:
    """Return the error for what cannot be read."""
    return DataError(f"{path!r} cannot be read ({error.strerror}); let this user read it")


def _check(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no file and no folder")
        message = f"{path!r} is {kind}, which cannot be data; remove it"
        raise DataError(message)


def _normal(relative: str, root: str) -> str:
    if relative.isascii():
        return relative
    try:
        relative.encode()
    except UnicodeEncodeError as error:
        message = f"the name {os.fsencode(relative)!r} in {root!r} is not UTF-8; rename it"
        raise DataError(message) from error
    return unicodedata.normalize("NFC", relative)


def _collision(path: str, root: str) -> str:
    return f"two files in {root!r} have the name {path!r}, spelt differently in Unicode only; rename one of them"
