"""Mirrors a file or a folder from one filesystem to another: streamed, in parallel, restartable, verified by digest."""

from __future__ import annotations

import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fsspec.implementations.local import LocalFileSystem

from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.store.digests import Content, digest_files, folder_digest
from airflow_mlpipe.store.tree import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import StatIndex

_THREADS = 8
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Mirrored:
    """What a transfer left: the content of the destination, and how much of it had to be sent (files, bytes)."""

    content: Content
    sent_files: int
    sent_bytes: int


@dataclass(frozen=True)
class _Job:
    source_fs: AbstractFileSystem
    target_fs: AbstractFileSystem
    index: StatIndex | None


def mirror(  # noqa: PLR0913 -- two places, and what is known of the first
    source_fs: AbstractFileSystem,
    source: str,
    target_fs: AbstractFileSystem,
    target: str,
    expected: Content | None = None,
    *,
    index: StatIndex | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Mirrored:
    """Make a destination hold what a source holds, and nothing else.

    Files that are there already and equal are not sent again, so a transfer that was broken off goes on where it was.
    Each file appears whole or not at all.

    :param expected: what the source was bound as; a source that is something else by now is refused.
    :raises DataChangedError: if the source is not what was expected.
    :raises DataError: if the source is missing, either side cannot be read or written, one lies inside the other, or
        a file arrived different from what was sent.
    """
    job = _Job(source_fs, target_fs, index)
    try:
        files = _files(source_fs, source)
        _refuse_overlap(source_fs, source, target_fs, target)
        single = set(files) == {""}
        present = {} if single else _present(target_fs, target)
        with ThreadPoolExecutor(_THREADS) as pool:
            there = dict(zip(files, pool.map(lambda path: _same(job, files, path, target), files), strict=True))
            sent = [path for path, digest in there.items() if digest is None]
            say(f"{len(files) - len(sent)} of {len(files)} files are there already")
            digests = dict(
                zip(sent, pool.map(lambda path: _send(job, files[path], _at(target, path)), sent), strict=True)
            )
        for path in sorted(set(present) - set(files)):
            target_fs.rm_file(_at(target, path))
    except (OSError, ValueError) as error:
        message = f"cannot copy {source} to {target}: {error}"
        raise DataError(message) from error
    content = _content({**there, **digests}, files)
    if expected is not None and expected.digest.startswith("sha256:") and content.digest != expected.digest:
        message = f"{source} has changed since the step was bound; run the step again"
        raise DataChangedError(message)
    return Mirrored(content, len(sent), sum(files[path][1] for path in sent))


def _files(fs: AbstractFileSystem, root: str) -> dict[str, tuple[str, int]]:
    """Return every file of a source: relative path -> (path, bytes); the path of a single file is empty."""
    if isinstance(fs, LocalFileSystem):
        return {relative: (file.path, file.status.st_size) for relative, file in files_of(root).items()}
    root = root.rstrip("/")
    if fs.isfile(root):
        return {"": (root, fs.size(root))}
    found = {path: info["size"] for path, info in fs.find(root, detail=True).items()}
    if not found:
        message = f"there is nothing at {root}"
        raise DataError(message)
    prefix = fs._strip_protocol(root).rstrip("/") + "/"  # noqa: SLF001 -- fsspec's own way to compare paths
    return {path.removeprefix(prefix): (path, size) for path, size in found.items()}


def _present(fs: AbstractFileSystem, root: str) -> dict[str, int]:
    """Return what lies at a destination: relative path -> bytes. A file where a folder shall be is in the way."""
    if not fs.exists(root):
        return {}
    if fs.isfile(root):
        fs.rm_file(root)
        return {}
    prefix = fs._strip_protocol(root).rstrip("/") + "/"  # noqa: SLF001 -- as above
    return {path.removeprefix(prefix): info["size"] for path, info in fs.find(root, detail=True).items()}


def _refuse_overlap(source_fs: AbstractFileSystem, source: str, target_fs: AbstractFileSystem, target: str) -> None:
    if type(source_fs) is not type(target_fs):
        return
    first, second = source.rstrip("/") + "/", target.rstrip("/") + "/"
    if isinstance(source_fs, LocalFileSystem):
        first, second = os.path.realpath(source) + "/", os.path.realpath(target) + "/"
    if first.startswith(second) or second.startswith(first):
        message = f"source and destination lie inside one another: {source}, {target}; choose another destination"
        raise DataError(message)


def _same(job: _Job, files: Mapping[str, tuple[str, int]], path: str, target: str) -> str | None:
    """Return the digest of a file that is at its destination already, or None where it must be sent."""
    source, size = files[path]
    place = _at(target, path)
    try:
        info = job.target_fs.info(place)
    except FileNotFoundError:
        return None
    if info["type"] == "directory":
        job.target_fs.rm(place, recursive=True)
        return None
    if info["size"] != size:
        return None
    digest = _digest(job.source_fs, source, job.index)
    return digest if digest == _digest(job.target_fs, place, job.index) else None


def _send(job: _Job, source: tuple[str, int], place: str) -> str:
    """Copy one file, whole or not at all; return the digest of what arrived."""
    local = isinstance(job.target_fs, LocalFileSystem)
    aside = f"{os.path.dirname(place)}/.{uuid.uuid4().hex}.part" if local else place  # noqa: PTH120 -- any filesystem
    job.target_fs.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH120 -- as above
    sent = hashlib.sha256()
    try:
        with job.source_fs.open(source[0], "rb") as reader, job.target_fs.open(aside, "wb") as writer:
            while block := reader.read(_BLOCK):
                sent.update(block)
                writer.write(block)
        digest = f"sha256:{sent.hexdigest()}"
        _verify(job.target_fs, aside, digest, place)
        if local:
            os.replace(aside, place)  # noqa: PTH105 -- plain strings of the filesystem
    except BaseException:
        if local and os.path.exists(aside):  # noqa: PTH110 -- as above
            os.unlink(aside)  # noqa: PTH108 -- as above
        raise
    return digest


def _verify(fs: AbstractFileSystem, path: str, digest: str, place: str) -> None:
    if _digest(fs, path, None) != digest:
        message = f"{place} arrived different from what was sent; copy it again"
        raise DataError(message)


def _digest(fs: AbstractFileSystem, path: str, index: StatIndex | None) -> str:
    if isinstance(fs, LocalFileSystem):
        return digest_files([Path(path)], index)[0]
    digest = hashlib.sha256()
    with fs.open(path, "rb") as reader:
        while block := reader.read(_BLOCK):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _content(digests: Mapping[str, str | None], files: Mapping[str, tuple[str, int]]) -> Content:
    known = {path: digest for path, digest in digests.items() if digest is not None}
    size = sum(length for _, length in files.values())
    if set(known) == {""}:
        return Content("file", known[""], size, 1)
    return Content("folder", folder_digest(known), size, len(files))


def _at(root: str, path: str) -> str:
    return f"{root.rstrip('/')}/{path}" if path else root
