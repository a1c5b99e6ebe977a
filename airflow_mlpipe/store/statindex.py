"""The stat index: digests of files that have not changed since they were read, kept in the user's cache folder.

A file is taken for unchanged while its path, device, inode, size and both times are. One that changed less than two
seconds before it was read is not remembered: a second change may have the same time. A broken or unwritable index
only costs time.
"""

from __future__ import annotations

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

KEPT_DAYS = 90
"""How long a row stays that is never written again; the file is read once more then."""

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


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Say whether a file was old enough when it was read, so that any later change shows in its times."""
    return now_ns - max(status.st_mtime_ns, status.st_ctime_ns) >= MARGIN_NS


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
