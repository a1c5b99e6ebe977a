"""The stat index: digests of files that have not changed since they were read, kept in the user's cache folder.

A file is taken for unchanged while its path, device, inode, size and both times are. One that changed less than two
seconds before it was read is not remembered: a second change may have the same time.

A program that has mapped a file into its memory changes the times only with its first write to a clean page; later
writes to that page show nothing until the kernel has written it back, which takes half a minute. So the pages of a file
are handed to the disk before it is read; where that cannot be done cheaply, a file is remembered a minute after it
changed, and on filesystems in memory, where such writes never show, not at all.

A broken or unwritable index only costs time.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

MARGIN_NS = 2_000_000_000
"""The age from which a file is remembered: coarser than the clock of any filesystem."""

WRITTEN_BACK_NS = 60_000_000_000
"""The age from which it is where its pages are not handed to the disk: by then the kernel has written them back."""

KEPT_DAYS = 90
"""How long a row stays that is never written again; the file is read once more then."""

_IN_MEMORY = {0x01021994, 0x858458F6, 0x958458F6}
"""tmpfs, ramfs, hugetlbfs: a write through a mapping never shows in the times."""
_ON_DISK = {0xEF53, 0x58465342}
"""ext2 to ext4 and XFS: a file's dirty pages are handed to the disk at once, 10 microseconds for a small file. On others
that takes a whole `fdatasync` (btrfs, where pages are compressed first), or does nothing (overlayfs, tried)."""
_ZERO = ctypes.c_int64(0)
_START_WRITING = 1 | 2
"""SYNC_FILE_RANGE_WAIT_BEFORE and _WRITE: all pages that are dirty now are under write-out, so the next write shows."""

_CHUNK = 900
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, stamp BLOB NOT NULL, digest TEXT NOT NULL, day INTEGER NOT NULL)
WITHOUT ROWID
"""
_logger = logging.getLogger(__name__)


def stamp_of(status: os.stat_result) -> bytes:
    """Return what tells whether a file has changed."""
    numbers = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return b"%d:%d:%d:%d:%d" % numbers


class Settling:
    """Tells of files, just before they are read, whether every later change will show in their stamps."""

    def __init__(self) -> None:
        self._now = time.time_ns()
        self._filesystems: dict[int, int] = {}

    def settle(self, number: int, status: os.stat_result) -> bool:
        """Say so of an open file, after making its next change show where that is possible.

        :param status: what its stamp is made from.
        """
        age = self._now - max(status.st_mtime_ns, status.st_ctime_ns)
        if age < MARGIN_NS:
            return False
        filesystem = self._filesystem(number, status.st_dev)
        if filesystem in _IN_MEMORY:
            return False
        return (filesystem in _ON_DISK and _start_writing(number)) or age >= WRITTEN_BACK_NS

    def _filesystem(self, number: int, device: int) -> int:
        if device not in self._filesystems:
            self._filesystems[device] = filesystem_of(number)
        return self._filesystems[device]


def filesystem_of(number: int) -> int:
    """Return the type of the filesystem of an open file, as Linux numbers them; 0 if it does not say."""
    buffer = (ctypes.c_long * 64)()
    failed = _libc().fstatfs(number, buffer)
    return 0 if failed else int(buffer[0]) & 0xFFFFFFFF


def _start_writing(number: int) -> bool:
    failed: int = _libc().sync_file_range(number, _ZERO, _ZERO, _START_WRITING)  # from 0 to the end
    return not failed


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


class StatIndex:
    """Digests by path and stamp. Safe among threads, forks and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._broken = False

    @classmethod
    def open(cls, path: Path | None = None) -> StatIndex:
        """Return the index of this user, or the one in a file; the file is opened when it is first needed."""
        return cls(path or _cache_folder() / "stat-index.sqlite")

    def get(self, stamps: Mapping[str, bytes]) -> dict[str, str]:
        """Return the digests of those absolute paths whose stamp is the remembered one."""

        def select(connection: sqlite3.Connection) -> dict[str, str]:
            wanted = {os.fsencode(path): path for path in stamps}
            keys = list(wanted)
            found: dict[str, str] = {}
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                marks = ",".join("?" * len(chunk))
                rows = connection.execute(f"SELECT path, stamp, digest FROM files WHERE path IN ({marks})", chunk)  # noqa: S608 -- only marks
                found.update((wanted[key], digest) for key, stamp, digest in rows if stamp == stamps[wanted[key]])
            return found

        return self._use(select) or {}

    def put(self, rows: Iterable[tuple[str, bytes, str]]) -> None:
        """Remember ``(absolute path, stamp, digest)``, and forget what was not used for long."""
        today = int(time.time() // 86400)
        values = [(os.fsencode(path), stamp, digest, today) for path, stamp, digest in rows]

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)
            _forget(connection, today)

        if values:
            self._use(insert)

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what an action returns; None if the index cannot be used."""
        if self._broken:
            return None
        try:
            return action(self._connection())
        except (sqlite3.Error, OSError) as error:
            self._broken = True
            _logger.info("files are read again, as the index %s cannot be used: %s", self._path, error)
            return None

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread of this process; one must not cross a fork."""
        opened: _Opened | None = getattr(self._local, "opened", None)
        if opened is None or opened.process != os.getpid():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            opened = self._local.opened = _Opened(self._path)
        return opened.connection


class _Opened:
    """A connection that is closed with its thread, by the process that opened it."""

    inherited: ClassVar[list[sqlite3.Connection]] = []
    """What a fork brought along: closing it here could disturb the parent, so it stays open until the process ends."""

    def __init__(self, path: Path) -> None:
        self.process = os.getpid()
        self.connection = sqlite3.connect(path, timeout=20, check_same_thread=False)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.execute(_SCHEMA)

    def __del__(self) -> None:
        connection: sqlite3.Connection | None = getattr(self, "connection", None)
        if connection is None:
            return
        if self.process == os.getpid():
            connection.close()
        else:
            self.inherited.append(connection)


def _forget(connection: sqlite3.Connection, today: int) -> None:
    """Once in a while, remove rows that nobody has written for long."""
    (last,) = connection.execute("PRAGMA user_version").fetchone()
    if today - last >= KEPT_DAYS // 3:
        with connection:
            connection.execute("DELETE FROM files WHERE day < ?", (today - KEPT_DAYS,))
            connection.execute(f"PRAGMA user_version = {today}")


def _cache_folder() -> Path:
    if chosen := os.environ.get("MLPIPE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "mlpipe"
