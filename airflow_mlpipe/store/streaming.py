"""Sends single files from one filesystem to another: each appears whole or not at all."""

# ruff: noqa: PTH105, PTH108, PTH123 -- plain strings of the filesystem, for thousands of files

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING, TypeVar

from fsspec.spec import AbstractBufferedFile

from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.store.digests import blocks, digest_files, digest_remote_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

    from airflow_mlpipe.store.sides import Side

T = TypeVar("T")

_PART = re.compile(r"(.*/)?\.[0-9a-f]{16}\.mlpipe-part\Z", re.DOTALL)


class Stream:
    """Sends files from one side to another, in several threads, until it is stopped or one of them fails."""

    def __init__(self, source: Side, target: Side, stopped: Callable[[], bool]) -> None:
        self._source = source
        self._target = target
        self._stopped = stopped
        self._failed = False

    def or_end(self, results: Iterable[T]) -> Iterator[T]:
        """Yield the results of the threads; if one has failed, the others end with their next block."""
        try:
            yield from results
        except BaseException:
            self._failed = True
            raise

    def send(self, path: str, size: int) -> str:
        """Copy one file; return the digest of what arrived.

        :param size: of the file, as it was listed.
        :raises DataChangedError: if the file has another size.
        :raises DataError: if what arrived differs from what was sent.
        """
        place = self._target.at(path)
        return self._beside(path, size, place) if self._target.local else self._upload(path, size, place)

    def _beside(self, path: str, size: int, place: str) -> str:
        """Write a local file under another name until it is whole; a name that the next try uses again."""
        folder, name = os.path.split(place)
        part = f"{folder}/.{hashlib.sha256(name.encode()).hexdigest()[:16]}.mlpipe-part"
        self._target.make_room(place)
        try:
            with open(part, "wb") as writer:
                digest = self._copy(path, size, writer)
            _compare(place, digest, digest_files([part])[0])
            os.replace(part, place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
        return digest

    def _upload(self, path: str, size: int, place: str) -> str:
        """Write a file that appears when it is closed, where the filesystem can do that."""
        self._target.make_room(place)
        writer = self._target.fs.open(place, "wb")
        try:
            digest = self._copy(path, size, writer)
            writer.close()
        except BaseException:
            self._give_up(writer, place)
            raise
        _compare(place, digest, digest_remote_file(self._target.fs, place, size))
        return digest

    def _give_up(self, writer: IO[bytes], place: str) -> None:
        """Leave nothing of a file that is not whole; closing it would finish it as it is."""
        if isinstance(writer, AbstractBufferedFile):
            writer.discard()
            writer.closed = True
            return
        with contextlib.suppress(FileNotFoundError):
            writer.close()
            self._target.fs.rm_file(place)

    def _copy(self, path: str, size: int, writer: IO[bytes]) -> str:
        sent = hashlib.sha256()
        count = 0
        for block in blocks(self._source.fs, self._source.found_at(path), size):
            if self._failed or self._stopped():
                message = "it was stopped; what has arrived whole is not sent again by the next try"
                raise DataError(message)
            sent.update(block)
            writer.write(block)
            count += len(block)
            if count > size:
                break  # or a file that is still being written to would never end
        if count != size:
            message = f"{path or 'the file'} changed while it was copied; run the step again"
            raise DataChangedError(message)
        return f"sha256:{sent.hexdigest()}"


def is_part(path: str) -> bool:
    """Say whether a path is that of a file that a killed transfer left unfinished."""
    return _PART.match(path) is not None


def _compare(place: str, sent: str, arrived: str) -> None:
    if arrived != sent:
        message = f"{place} arrived different from what was sent; copy it again"
        raise DataError(message)
