"""The two kinds of places a store may lie in: the local disk, and any other fsspec filesystem.

Both have the same methods and take full paths. A file appears whole or not at all in either.
"""

# ruff: noqa: D102, PTH101, PTH103, PTH105, PTH108, PTH112, PTH113, PTH114, PTH116, PTH120, PTH123, PTH208 -- `Place` describes the methods; paths are plain strings

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.store import s3
from airflow_mlpipe.store.exclusive import aside_in, create_file, lock_of, making_folder
from airflow_mlpipe.store.listing import listing, version_of
from airflow_mlpipe.store.staging import Stager

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsspec import AbstractFileSystem


_READ_ONLY = 0o444
_LISTERS = 16


class Listed(NamedTuple):
    """What a listing tells of a file: its bytes, and what tells its version from others; empty where nothing does."""

    size: int
    version: str = ""


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

    def copy(self, source: str, path: str) -> None:
        """Make a file hold what another holds that is never written again."""

    def make_folder(self, path: str) -> None:
        """Make an empty folder, on filesystems that have such a thing."""

    def sizes(self, path: str) -> dict[str, int]:
        """Return the bytes of every file at or below a path, by relative path."""

    def listings(self, paths: Iterable[str]) -> dict[str, dict[str, Listed]]:
        """Return what is told of every file below several folders, by folder and relative path."""

    def names(self, path: str) -> list[str]:
        """Return the names directly below a path."""

    def exists(self, path: str) -> bool:
        """Say whether a file exists."""

    def remove(self, path: str) -> None:
        """Remove a file or a tree."""


def place_of(fs: AbstractFileSystem, root: str) -> Place:
    """Return how to work with a filesystem, at and below a path."""
    if isinstance(fs, LocalFileSystem):
        return LocalPlace()
    return S3Place(fs) if s3.is_s3(fs, root) else RemotePlace(fs)


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

    def copy(self, source: str, path: str) -> None:
        with _appearing(path) as aside:
            # no hard link: a script that damages one, through a link of its own, would damage both
            Stager(link=True, hard=False).stage(source, os.stat(source), aside)

    def make_folder(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def sizes(self, path: str) -> dict[str, int]:
        try:
            return dict(_sizes(path, ""))
        except NotADirectoryError:
            return {"": os.stat(path).st_size}
        except FileNotFoundError:
            return {}

    def listings(self, paths: Iterable[str]) -> dict[str, dict[str, Listed]]:
        return {path: {name: Listed(size) for name, size in self.sizes(path).items()} for path in paths}

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
    aside = aside_in(os.path.dirname(path))
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def _sizes(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield the files of a folder; what vanishes meanwhile, as files being written do, is left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry.path, f"{prefix}{entry.name}/")
                else:
                    yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


def _present(found: Mapping[str, bytes | Exception]) -> dict[str, bytes]:
    """Leave out the files that do not exist; any other error is raised."""
    for answer in found.values():
        if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
            raise answer
    return {path: bytes(answer) for path, answer in found.items() if not isinstance(answer, Exception)}


def _listed(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Listed]:
    return {name: Listed(int(entry["size"]), version_of(entry) or "") for name, entry in entries.items()}


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
            return _present(self._fs.cat(wanted, recursive=False, on_error="return"))

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

    def copy(self, source: str, path: str) -> None:
        with lock_of(self._fs):
            making_folder(self._fs, path, lambda: self._fs.cp_file(source, path))

    def make_folder(self, path: str) -> None:
        with lock_of(self._fs):
            self._fs.makedirs(path, exist_ok=True)

    def sizes(self, path: str) -> dict[str, int]:
        return {name: entry.size for name, entry in self._listing(path).items()}

    def listings(self, paths: Iterable[str]) -> dict[str, dict[str, Listed]]:
        wanted = list(paths)
        with ThreadPoolExecutor(_LISTERS) as pool:
            return dict(zip(wanted, pool.map(self._listing, wanted), strict=True))

    def _listing(self, path: str) -> dict[str, Listed]:
        try:
            return _listed(listing(self._fs, path))
        except FileNotFoundError:
            return {}

    def names(self, path: str) -> list[str]:
        with lock_of(self._fs):
            try:
                found = [name.rstrip("/") for name in self._fs.ls(path, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({name.rpartition("/")[2] for name in found if name != path})

    def exists(self, path: str) -> bool:
        with lock_of(self._fs):
            try:
                return bool(self._fs.info(path)["type"] == "file")
            except FileNotFoundError:
                return False

    def remove(self, path: str) -> None:
        with lock_of(self._fs), contextlib.suppress(FileNotFoundError):
            self._fs.rm(path, recursive=True)


class S3Place(RemotePlace):
    """A bucket of S3, with one request for whatever takes one."""

    def read(self, path: str) -> bytes:
        return s3.read(self._fs, path)

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        wanted = list(paths)
        return _present(s3.read_all(self._fs, wanted)) if wanted else {}

    def write(self, path: str, content: bytes) -> None:
        s3.write(self._fs, path, content)

    def upload(self, source: str, path: str, *, move: bool) -> None:  # noqa: ARG002 -- nothing moves between machines
        s3.upload(self._fs, source, path)

    def make_folder(self, path: str) -> None:
        s3.make_folder(self._fs, path)

    def listings(self, paths: Iterable[str]) -> dict[str, dict[str, Listed]]:
        return {path: _listed(entries) for path, entries in s3.listings(self._fs, list(paths)).items()}

    def names(self, path: str) -> list[str]:
        return s3.names(self._fs, path)

    def exists(self, path: str) -> bool:
        return s3.exists(self._fs, path)

    def remove(self, path: str) -> None:
        s3.remove(self._fs, path)
