"""The two kinds of places a store may lie in: the local disk, and any other fsspec filesystem.

Both have the same methods and take full paths. A file appears whole or not at all in either.
"""

# ruff: noqa: D102, PTH101, PTH103, PTH105, PTH108, PTH112, PTH113, PTH114, PTH116, PTH120, PTH123, PTH208 -- `Place` describes the methods; paths are plain strings

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import shutil
from typing import IO, TYPE_CHECKING, Protocol

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.store.exclusive import create_file, lock_of, making_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsspec import AbstractFileSystem


_READ_ONLY = 0o444


class Place(Protocol):
    """What `Store` needs of a filesystem."""

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those files that exist."""

    def reader(self, path: str) -> IO[bytes]:
        """Open a file for reading from its beginning to its end."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

    def upload(self, source: str, path: str, *, move: bool) -> None:
        """Copy a local file, or move it where that is possible; it is never written again."""

    def sizes(self, path: str) -> dict[str, int]:
        """Return the bytes of every file at or below a path, by relative path."""

    def names(self, path: str) -> list[str]:
        """Return the names directly below a path."""

    def exists(self, path: str) -> bool:
        """Say whether a file exists."""

    def remove(self, path: str) -> None:
        """Remove a file or a tree."""


def place_of(fs: AbstractFileSystem) -> Place:
    """Return how to work with a filesystem."""
    return LocalPlace() if isinstance(fs, LocalFileSystem) else RemotePlace(fs)


class LocalPlace:
    """The local disk, without the detour through fsspec. What is overwritten is replaced by a rename."""

    def read(self, path: str) -> bytes:
        with open(path, "rb", buffering=0) as file:
            return file.readall()

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        found = {}
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                found[path] = self.read(path)
        return found

    def reader(self, path: str) -> IO[bytes]:
        return open(path, "rb")

    def write(self, path: str, content: bytes) -> None:
        with _appearing(path) as aside, create_file(aside) as file:
            file.write(content)

    def upload(self, source: str, path: str, *, move: bool) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not (move and _moved(source, path)):
            with _appearing(path) as aside:
                shutil.copyfile(source, aside)
                os.chmod(aside, _READ_ONLY)

    def sizes(self, path: str) -> dict[str, int]:
        try:
            return dict(_sizes(path, ""))
        except NotADirectoryError:
            return {"": os.stat(path).st_size}
        except FileNotFoundError:
            return {}

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, path: str) -> bool:
        return os.path.isfile(path)

    def remove(self, path: str) -> None:
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except FileNotFoundError:  # somebody else removes it, too
            if os.path.isdir(path):
                self.remove(path)


def _moved(source: str, path: str) -> bool:
    """Rename a file, unless that would lead to another filesystem."""
    try:
        os.chmod(source, _READ_ONLY)
        os.replace(source, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


@contextlib.contextmanager
def _appearing(path: str) -> Iterator[str]:
    """Give a path to write to; what was written there is renamed, or removed after an error."""
    aside = f"{os.path.dirname(path)}/.{secrets.token_hex(8)}.tmp"
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def _sizes(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


class RemotePlace:
    """Any other filesystem, through fsspec; nothing is renamed, and listings are paged by the filesystem."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self._fs = fs

    def read(self, path: str) -> bytes:
        with lock_of(self._fs):
            return bytes(self._fs.cat_file(path))

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        wanted = list(paths)
        if not wanted:
            return {}
        with lock_of(self._fs):
            found: Mapping[str, bytes | Exception] = self._fs.cat(wanted, recursive=False, on_error="return")
        for answer in found.values():
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
        return {path: bytes(answer) for path, answer in found.items() if not isinstance(answer, Exception)}

    def reader(self, path: str) -> IO[bytes]:
        if isinstance(self._fs, MemoryFileSystem):  # its readers of one file share one position
            return io.BytesIO(self.read(path))
        opened: IO[bytes] = self._fs.open(path, "rb")
        return opened

    def write(self, path: str, content: bytes) -> None:
        with lock_of(self._fs):
            making_folder(self._fs, path, lambda: self._fs.pipe_file(path, content))

    def upload(self, source: str, path: str, *, move: bool) -> None:  # noqa: ARG002 -- nothing moves between machines
        with lock_of(self._fs):
            making_folder(self._fs, path, lambda: self._fs.put_file(source, path))

    def sizes(self, path: str) -> dict[str, int]:
        with lock_of(self._fs):
            try:
                found = self._fs.find(path, detail=True)
            except FileNotFoundError:
                return {}
            if set(found) == {path}:
                return {"": int(self._fs.size(path))}
        return {
            name[len(path) :].lstrip("/"): int(entry["size"])
            for name, entry in found.items()
            if entry["type"] != "directory" and not name.endswith("/")
        }

    def names(self, path: str) -> list[str]:
        with lock_of(self._fs):
            try:
                found = [name.rstrip("/") for name in self._fs.ls(path, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({name.rpartition("/")[2] for name in found if name != path})

    def exists(self, path: str) -> bool:
        with lock_of(self._fs):
            return bool(self._fs.isfile(path))

    def remove(self, path: str) -> None:
        with lock_of(self._fs), contextlib.suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)
