"""What of a source directory is code: everything that is not ignored, by content.

- `SourceTree` says what is ignored and what is refused.
- `scan` takes the whole directory; `modules.scan_imports` takes only what a script imports.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from airflow_mlpipe.exceptions import DataError, SourceError
from airflow_mlpipe.store.digests import digest_files
from airflow_mlpipe.store.snapshots import Snapshot, SourceFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from airflow_mlpipe.store.digests import StatIndex

IGNORE_FILES = (".amlignore", ".gitignore")
"""The first of these in the root of a source directory says what is not code; they are not merged."""

ALWAYS_IGNORED = frozenset(
    {
        *IGNORE_FILES,
        ".DS_Store",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mlpipe",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".venv",
        "__pycache__",
        "mlpipe.lock",
    }
)
"""Names that are never code, in any folder and whatever an ignore file says."""

ALWAYS_IGNORED_PATTERNS = ("*.pyc", "*.pyo", "*.swp", "*.swo", "*.swx", "*~", ".#*", "#*#")
"""The same as patterns of a name: compiled files, and what editors leave while a file is open."""

_ALWAYS_IGNORED = re.compile("|".join(map(translate, ALWAYS_IGNORED_PATTERNS)))

MAX_FILES = 50_000
MAX_BYTES = 2 * 1024**3

_MARKS = (
    frozenset({"journal", "latest", "log", "runs"}),  # an output store
    frozenset({"airflow.cfg", "mlpipe.json"}),  # a private Airflow
)
"""What tells a folder by the names in it as one of ours, wherever it lies and whatever it is called."""

_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def scan(directory: Path, index: StatIndex | None = None, without: Iterable[Path] = ()) -> Snapshot:
    """Return the snapshot of all files below a source directory that are not ignored.

    Links inside the directory are followed, so the content behind them counts. Output stores and private folders of
    ours are never code.

    :param index: remembers digests, so that unchanged files are not read again.
    :param without: further files and folders that are no code, where they lie below the directory.
    :raises SourceError: if the directory does not exist or is too large, or holds a file that cannot be packed: a
        link that is broken, runs in a circle or leaves the directory, a device, a socket, a named pipe, a file that
        cannot be read.
    """
    tree = SourceTree.open(directory, without)
    files: dict[str, os.stat_result] = {}
    size = 0
    for path, status in tree.walk():
        files[path] = status
        size += status.st_size
        if len(files) > MAX_FILES or size > MAX_BYTES:
            raise _too_large(directory)
    return tree.snapshot(files, index)


@dataclass(frozen=True)
class SourceTree:
    """A source directory and its ignore rules. Paths are relative to it, with ``/``.

    ``without`` holds the real paths of what is no code either.
    """

    directory: Path
    root: str
    rules: GitIgnoreSpec
    without: frozenset[str] = frozenset()

    @classmethod
    def open(cls, directory: Path, without: Iterable[Path] = ()) -> SourceTree:
        """Return the tree of a directory.

        :param without: files and folders that are no code.
        :raises SourceError: if it is not a directory, or its ignore file cannot be used.
        """
        if not directory.is_dir():
            what = "is not a directory" if directory.exists() else "does not exist"
            message = f"the source directory {str(directory)!r} {what}: correct source_directory"
            raise SourceError(message)
        left_out = frozenset(os.path.realpath(path) for path in without)
        return cls(directory, os.path.realpath(directory), _read_rules(directory), left_out)

    def walk(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield every file that is code, with the status of what it leads to.

        :raises SourceError: at the first file that cannot be packed.
        """
        yield from self._walk("", (self.root,))

    def find(self, path: str) -> os.stat_result | None:
        """Return the status of one file, or None if there is no such file or it is ignored.

        :raises SourceError: if it cannot be packed.
        """
        parts = path.split("/")
        parents = ["/".join(parts[:end]) for end in range(1, len(parts))]
        if any(self.ignores(parent, folder=True) for parent in parents) or self.ignores(path, folder=False):
            return None
        if not os.path.lexists(self._full(path)):
            return None
        status = self._status(path)
        return None if stat.S_ISDIR(status.st_mode) else status

    def ignores(self, path: str, *, folder: bool) -> bool:
        """Say whether a path itself is ignored; what lies in an ignored folder is not asked for."""
        name = path.rpartition("/")[2]
        if name in ALWAYS_IGNORED or _ALWAYS_IGNORED.match(name):
            return True
        return self._has_rules and self.rules.match_file(path + "/" if folder else path)

    def snapshot(self, files: Mapping[str, os.stat_result], index: StatIndex | None) -> Snapshot:
        """Return the snapshot of some of the files, reading those the index does not know.

        :raises SourceError: if one cannot be read.
        """
        paths = sorted(files)
        try:
            digests = digest_files([self.directory / path for path in paths], index)
        except (OSError, DataError) as error:
            message = f"the source directory {str(self.directory)!r} cannot be read: {error}"
            raise SourceError(message) from error
        return Snapshot(
            {
                path: SourceFile(digest, executable=bool(files[path].st_mode & stat.S_IXUSR))
                for path, digest in zip(paths, digests, strict=True)
            }
        )

    @cached_property
    def _has_rules(self) -> bool:
        return len(self.rules) > 0

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path)  # noqa: PTH118 -- thousands of files: Path is slow here

    def _walk(self, folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files below a folder; ``above`` holds the real paths of it and its parents."""
        entries = self._entries(folder)
        if folder and self._is_ours(folder, {entry.name for entry in entries}):
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if self._ignores_entry(path, entry):
                continue
            real = os.path.realpath(self._full(path)) if entry.is_symlink() else f"{above[-1]}/{entry.name}"
            if real in self.without:
                continue
            status = self._status(path) if entry.is_symlink() else self._status_of(path, entry)
            if not stat.S_ISDIR(status.st_mode):
                yield path, status
            elif real in above:
                raise self._refused(path, "is a link to a folder that contains it")
            else:
                yield from self._walk(path, (*above, real))

    def _is_ours(self, folder: str, names: set[str]) -> bool:
        """Say whether a folder is an output store or a private Airflow, or holds one for `mlpipe run`."""
        if any(mark <= names for mark in _MARKS):
            return True
        return "airflow" in names and os.path.lexists(self._full(f"{folder}/airflow/mlpipe.json"))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._full(folder)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise self._refused(folder or ".", f"cannot be listed ({error.strerror})") from error

    def _ignores_entry(self, path: str, entry: os.DirEntry[str]) -> bool:
        try:
            folder = entry.is_dir()
        except OSError:  # a circle of links; refused below unless it is ignored
            folder = False
        return self.ignores(path, folder=folder)

    def _status_of(self, path: str, entry: os.DirEntry[str]) -> os.stat_result:
        try:
            status = entry.stat()
        except OSError as error:
            raise self._refused(path, f"cannot be read ({error.strerror})") from error
        self._check(path, status)
        return status

    def _status(self, path: str) -> os.stat_result:
        """Return the status of what a path leads to, which has to lie within the directory."""
        full = self._full(path)
        try:
            status = os.stat(full)  # noqa: PTH116 -- as above
        except OSError as error:
            what = "is a link that leads nowhere" if os.path.islink(full) else "cannot be read"  # noqa: PTH114
            raise self._refused(path, f"{what} ({error.strerror})") from error
        real = os.path.realpath(full)
        if real != self.root and not real.startswith(self.root.rstrip("/") + "/"):
            raise self._refused(path, f"is a link that leaves the directory (to {real})")
        self._check(path, status)
        return status

    def _check(self, path: str, status: os.stat_result) -> None:
        if kind := _KINDS.get(stat.S_IFMT(status.st_mode)):
            raise self._refused(path, f"is {kind}")
        try:
            path.encode()
        except UnicodeEncodeError:
            raise self._refused(path, "has a name that is not UTF-8") from None

    def _refused(self, path: str, what: str) -> SourceError:
        return SourceError(
            f"{path if path.isprintable() else ascii(path)} in the source directory "
            f"{str(self.directory)!r} {what}: remove it, or name it in .amlignore"
        )


def _read_rules(directory: Path) -> GitIgnoreSpec:
    for name in IGNORE_FILES:
        file = directory / name
        try:
            return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8-sig").splitlines())
        except (FileNotFoundError, IsADirectoryError):
            continue
        except (OSError, ValueError) as error:
            message = f"the ignore file {str(file)!r} cannot be used: {error}"
            raise SourceError(message) from error
    return GitIgnoreSpec.from_lines(())


def _too_large(directory: Path) -> SourceError:
    return SourceError(
        f"the source directory {str(directory)!r} holds more than {MAX_FILES:,} files or {MAX_BYTES // 1024**3} GiB: "
        "declare data as inputs, and name what is not code in .amlignore"
    )
