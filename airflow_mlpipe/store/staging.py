"""Bringing single files to a local path, by the first way that is safe."""

# ruff: noqa: PTH101, PTH103, PTH108, PTH116, PTH120, PTH123 -- plain strings, for thousands of files

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import s3
from airflow_mlpipe.store.exclusive import lock_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_READ_ONLY = 0o444
_WRITABLE = 0o644
_WRITE_BITS = 0o222
_FICLONE = 0x40049409
"""The ioctl of Linux that makes a file share the blocks of another until either is written."""


class Stager:
    """Brings files to local paths; remembers which ways lead nowhere between the filesystems at hand.

    ``copied`` says whether a file had to be copied, as all its bytes are read for that anyway.

    :param link: whether a file may be shared with its source, read-only; otherwise it is a writable copy.
    :param hard: whether it may be shared as a hard link.
    """

    def __init__(self, *, link: bool, hard: bool = True) -> None:
        self._mode = _READ_ONLY if link else _WRITABLE
        self._links = link and hard and os.geteuid() != 0
        self._clones = True
        self.copied = False

    def stage(self, source: str, status: os.stat_result, target: str) -> None:
        """Bring a local file to a path: a clone, a hard link, or a copy."""
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if self._clones and self._clone(source, target):
            return
        if self._links and not status.st_mode & _WRITE_BITS and self._link(source, target):
            return
        self.copied = True
        shutil.copyfile(source, target)
        os.chmod(target, self._mode)

    def download(self, fs: AbstractFileSystem, source: str, target: str, size: int) -> None:
        """Copy a file of any filesystem to a path, and see that all its bytes arrived."""
        self.copied = True
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with lock_of(fs):
            if s3.is_s3(fs, source):
                s3.download(fs, source, target, size)
            else:
                fs.get_file(source, target)
        arrived = os.stat(target).st_size
        if arrived != size:
            message = f"{fs.unstrip_protocol(source)} arrived with {arrived} bytes instead of {size}; run again"
            raise DataError(message)
        os.chmod(target, self._mode)

    def _clone(self, source: str, target: str) -> bool:
        try:
            with open(source, "rb") as reader, open(target, "xb") as writer:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError as error:
            if error.filename is not None:  # it could not be opened, and no other way would do better
                raise
            self._clones = False
            os.unlink(target)
            return False
        os.chmod(target, self._mode)
        return True

    def _link(self, source: str, target: str) -> bool:
        """Link a file; followed first, since a link to a link would lead out of the store."""
        with contextlib.suppress(OSError):  # another filesystem, or one without links, or somebody else's file
            os.link(os.path.realpath(source), target)
            return True
        return False
