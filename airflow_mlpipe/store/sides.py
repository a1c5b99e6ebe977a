"""One end of a transfer: what lies there, on whatever filesystem."""

# ruff: noqa: PTH108, PTH112, PTH114, PTH120 -- plain strings of the filesystem, for thousands of files

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fsspec.asyn import AsyncFileSystem

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store.attempts import retried
from airflow_mlpipe.store.digests import digest_files, digest_remote_file, is_local, sizes_below
from airflow_mlpipe.store.exclusive import lock_of
from airflow_mlpipe.store.tree import TreeFile, files_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import StatIndex

_NO_DATA = -1
"""The size of what is no data: a link, a named pipe; it equals that of no file."""

_PLACES = ("endpoint", "host", "port", "url", "account_name", "server", "namenode")
"""What is in the names of storage options that say where the data lies; others say who asks, and how."""


@dataclass(frozen=True)
class Side:
    """A file or a folder of a filesystem, that is there or shall be."""

    fs: AbstractFileSystem
    path: str

    def __str__(self) -> str:
        return str(self.fs.unstrip_protocol(self.root))

    @cached_property
    def root(self) -> str:
        """The path, as the filesystem lists it."""
        return str(self.fs._strip_protocol(self.path)).rstrip("/") or "/"  # noqa: SLF001 -- fsspec has no public name

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.root.rpartition("/")[2]

    @cached_property
    def local(self) -> bool:
        """Whether it is on the local disk."""
        return is_local(self.fs)

    def at(self, path: str) -> str:
        """Return where a file lies by its relative path, which is empty for a single file."""
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    def found_at(self, path: str) -> str:
        """Return where one of `files` lies; on the local disk its name may be another form of the same Unicode."""
        return self._tree[path].path if self.local else self.at(path)

    def files(self) -> Mapping[str, int]:
        """Return the bytes of every file by relative path; a single file's is empty.

        :raises FileNotFoundError: if there is nothing.
        :raises DataError: if something there cannot be data.
        """
        if self.local:
            return {path: file.status.st_size for path, file in self._tree.items()}
        return retried(lambda: sizes_below(self.fs, self.root))

    def present(self) -> Mapping[str, int]:
        """Return the same for what is to be replaced, which may be nothing, or anything."""
        try:
            return dict(_walk(self.root, "")) if self.local else self.files()
        except FileNotFoundError:
            return {}

    def digests(self, places: Sequence[str], index: StatIndex | None, pool: Executor) -> list[str]:
        """Return the digests of the files at some places."""
        if self.local:
            return digest_files(places, index)
        return list(pool.map(lambda place: retried(lambda: digest_remote_file(self.fs, place)), places))

    def remove(self, path: str) -> None:
        """Remove a file, or a link itself."""
        if self.local:
            os.unlink(self.at(path))
            return
        with lock_of(self.fs):
            self.fs.rm_file(self.at(path))

    def make_folder(self) -> None:
        """Make an empty folder.

        :raises DataError: if this is a filesystem that has no such thing.
        """
        if not self.has_folders:
            message = "it is an empty folder, which does not exist there; give a source that holds something"
            raise DataError(message)
        self.fs.makedirs(self.root, exist_ok=True)

    @property
    def has_folders(self) -> bool:
        """Whether folders exist by themselves, unlike on object stores, whose clients are asynchronous."""
        return not isinstance(self.fs, AsyncFileSystem)

    def make_room(self, place: str) -> None:
        """Make the folder of a file, and remove the folder, empty by now, that lies where it shall be."""
        if not self.has_folders:
            return
        self.fs.makedirs(os.path.dirname(place), exist_ok=True)
        if self.fs.isdir(place) and not (self.local and os.path.islink(place)):
            folders = self.fs.find(place, withdirs=True, detail=True).values()
            for folder in sorted((entry["name"] for entry in folders if entry["type"] == "directory"), reverse=True):
                self.fs.rmdir(folder)

    @cached_property
    def _tree(self) -> Mapping[str, TreeFile]:
        return files_of(self.root)

    @property
    def _where(self) -> tuple[Any, ...]:
        """What tells one filesystem from another."""
        return type(self.fs), self.fs.storage_args, repr(sorted(_places(self.fs.storage_options), key=repr))

    def _real(self) -> str:
        return (os.path.realpath(self.root) if self.local else self.root).rstrip("/") + "/"

    def reaches(self, other: Side) -> bool:
        """Say whether another side is this one, or lies inside it."""
        same = (self.local and other.local) or self._where == other._where
        return same and other._real().startswith(self._real())


def refuse_overlap(one: Side, other: Side, what: str, destination: str) -> None:
    """Refuse a destination that is something else, or lies inside it, or around it.

    :raises DataError: then.
    """
    if one.reaches(other) or other.reaches(one):
        message = f"{what} and the destination {destination} lie inside one another; choose another destination"
        raise DataError(message)


def _places(options: Mapping[str, Any]) -> set[tuple[str, Any]]:
    """Return the storage options that say where the data lies; AWS, where names are global, is what nobody names."""
    found: set[tuple[str, Any]] = set()
    for name, value in options.items():
        if isinstance(value, dict):
            found |= _places(value)
        elif any(part in name for part in _PLACES) and "amazonaws.com" not in str(value):
            found.add((name, str(value).rstrip("/")))
    return found


def _walk(root: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield what lies at a local path, with its bytes; links below are not followed."""
    if not os.path.isdir(root):
        status = os.lstat(root)
        yield "", status.st_size if stat.S_ISREG(status.st_mode) else _NO_DATA
        return
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from ((f"{prefix}{path}", size) for path, size in _walk(entry.path, f"{entry.name}/"))
            else:
                regular = entry.is_file(follow_symlinks=False)
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size if regular else _NO_DATA
