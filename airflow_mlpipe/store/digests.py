"""What some data is: digests of files, folders and remote objects.

The digest of a file is that of its bytes; the digest of a folder is that of its sorted ``(path, digest)`` pairs. A
local folder and its copy on an object store have the same digest.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.store import s3
from airflow_mlpipe.store.attempts import retried
from airflow_mlpipe.store.exclusive import lock_of
from airflow_mlpipe.store.listing import listing
from airflow_mlpipe.store.statindex import Settling, StatIndex, stamp_of
from airflow_mlpipe.store.tree import files_of, unreadable, vanished

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.tree import TreeFile

__all__ = [
    "Content",
    "StatIndex",
    "blocks",
    "content_of",
    "digest_files",
    "digest_object",
    "digest_path",
    "digest_remote_file",
    "digest_tree",
    "folder_digest",
    "is_local",
    "local_files",
    "sizes_below",
]

_LARGE = 1 << 20
"""Bytes from which a file is worth a thread of its own."""

_BLOCK = 1 << 20
_SMALL = 8 << 20
_CHUNK = 500
_READERS = 8


@dataclass(frozen=True)
class Content:
    """What some data is, wherever it lies: ``kind`` is ``file`` or ``folder``, ``digest`` is ``sha256:<hex>``.

    ``digest`` may also be ``version:<token>`` or ``path:<uri>``, for external data compared that way.
    ``size`` is in bytes, ``files`` the number of files.
    """

    kind: str
    digest: str
    size: int
    files: int


def digest_path(path: Path, index: StatIndex | None = None) -> Content:
    """Return what a local file or folder is.

    :param index: remembers digests, so that unchanged files are not read again.
    :raises FileNotFoundError: if there is nothing.
    :raises DataError: if it holds a link that leaves it, a device, a socket, a named pipe, names that differ only in
        their Unicode form, or what cannot be read.
    :raises DataChangedError: if it changes meanwhile.
    """
    return digest_tree(files_of(os.path.abspath(path)), index)  # noqa: PTH100 -- the index wants plain strings


def digest_tree(files: Mapping[str, TreeFile], index: StatIndex | None = None) -> Content:
    """Return what local files that were listed already are together; see `digest_path`."""
    found = [(file.path, file.status) for file in files.values()]
    digests = dict(zip(files, _digests(found, index), strict=True))
    return content_of(digests, sum(status.st_size for _, status in found))


def digest_files(paths: Sequence[Path | str], index: StatIndex | None = None) -> list[str]:
    """Return the digests of local files, in the order of the paths; see `digest_path`."""
    found = [os.path.abspath(path) for path in paths]  # noqa: PTH100 -- as above
    return _digests([(path, os.stat(path)) for path in found], index)  # noqa: PTH116 -- as above


def folder_digest(files: Mapping[str, str]) -> str:
    """Return the digest of a folder from the digests of its files, by relative path.

    The hashed bytes are ``fingerprint.encode({"folder": [[path, digest], ...]})``, written here at once since a
    folder may have many files.
    """
    encoded = ((path.encode(), digest.encode()) for path, digest in sorted(files.items()))
    pairs = [b"l2:s%d:%bs%d:%b" % (len(path), path, len(digest), digest) for path, digest in encoded]
    return _named(hashlib.sha256(b"m1:s6:folderl%d:" % len(pairs) + b"".join(pairs)).hexdigest())


def content_of(digests: Mapping[str, str], size: int) -> Content:
    """Return a content from the digests of its files by relative path; the path of a single file is empty."""
    if digests.keys() == {""}:
        return Content("file", digests[""], size, 1)
    return Content("folder", folder_digest(digests), size, len(digests))


def digest_object(fs: AbstractFileSystem, path: str) -> Content:
    """Return what a file or folder of any filesystem is, reading it in blocks; see `digest_path`.

    :raises FileNotFoundError: if there is nothing.
    :raises DataError: if it cannot be read.
    """
    if is_local(fs):
        return digest_path(Path(path))
    root = str(fs._strip_protocol(path)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
    try:
        sizes = retried(lambda: sizes_below(fs, root))
        with ThreadPoolExecutor(_READERS) as pool:
            full = [f"{root}/{name}" if name else root for name in sizes]
            digests = dict(
                zip(
                    sizes,
                    pool.map(
                        lambda name, size: retried(lambda: digest_remote_file(fs, name, size)), full, sizes.values()
                    ),
                    strict=True,
                )
            )
    except (FileNotFoundError, DataError):
        raise
    except Exception as error:  # each filesystem has errors of its own
        message = f"{fs.unstrip_protocol(root)} cannot be read: {error}; see the credentials of its datastore"
        raise DataError(message) from error
    return content_of(digests, sum(sizes.values()))


def sizes_below(fs: AbstractFileSystem, root: str) -> dict[str, int]:
    """Return the bytes of every file of a remote folder by relative path, of a single file as ``{"": bytes}``.

    :param root: as the filesystem lists it.
    :raises FileNotFoundError: if there is nothing.
    """
    return {path: int(entry["size"]) for path, entry in listing(fs, root).items() if entry["type"] == "file"}


def is_local(fs: AbstractFileSystem) -> bool:
    """Say whether a filesystem is the local disk."""
    return isinstance(fs, LocalFileSystem)


def local_files(root: Path) -> dict[str, Path]:
    """Return every file of a local folder by relative path, a single file under the empty path; see `digest_path`."""
    return {relative: Path(file.path) for relative, file in files_of(os.path.abspath(root)).items()}  # noqa: PTH100


def _digests(files: Sequence[tuple[str, os.stat_result]], index: StatIndex | None) -> list[str]:
    """Return the digests of files, reading those the index does not know."""
    stamps = {path: stamp_of(status) for path, status in files} if index else {}
    known = index.get(stamps) if index else {}
    missing = {path: status for path, status in files if path not in known}
    read = _read_all(missing, Settling() if index else None)
    if index:
        index.put((path, stamps[path], digest) for path, (digest, settled) in read.items() if settled)
    known.update((path, digest) for path, (digest, _) in read.items())
    return [known[path] for path, _ in files]


def _read_all(files: Mapping[str, os.stat_result], settling: Settling | None) -> dict[str, tuple[str, bool]]:
    """Read files side by side, each large one for itself, small ones in chunks; see `_digest_file`."""
    large = [[item] for item in files.items() if item[1].st_size >= _LARGE]
    small = [item for item in files.items() if item[1].st_size < _LARGE]
    jobs = large + [small[start : start + _CHUNK] for start in range(0, len(small), _CHUNK)]
    read = partial(_read, settling=settling)
    if len(jobs) == 1:
        return dict(read(jobs[0]))
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as pool:
        return dict(pair for pairs in pool.map(read, jobs) for pair in pairs)


def _read(files: Sequence[tuple[str, os.stat_result]], settling: Settling | None) -> list[tuple[str, tuple[str, bool]]]:
    return [(path, _digest_file(path, status, settling)) for path, status in files]


def _digest_file(path: str, expected: os.stat_result, settling: Settling | None) -> tuple[str, bool]:
    """Return the digest of a file that is as it was when it was listed, and whether it may be remembered."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise vanished(path) from error
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        settled = settling is not None and settling.settle(number, expected)
        digest = _digest_descriptor(number, expected.st_size)
        status = os.fstat(number)
    except OSError as error:
        raise unreadable(path, error) from error
    finally:
        os.close(number)
    if (status.st_size, status.st_mtime_ns) != (expected.st_size, expected.st_mtime_ns):
        message = f"{path!r} changed while it was read; run again when nobody writes to it"
        raise DataChangedError(message)
    return digest, settled


def _digest_descriptor(number: int, size: int) -> str:
    if size < _LARGE:
        content = os.read(number, size + 1)
        if len(content) == size:
            return _named(hashlib.sha256(content).hexdigest())
        os.lseek(number, 0, os.SEEK_SET)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK))
    while length := os.readv(number, [buffer]):
        digest.update(buffer[:length])
    return _named(digest.hexdigest())


def digest_remote_file(fs: AbstractFileSystem, path: str, size: int | None = None) -> str:
    """Return the digest of one file of any filesystem; see `blocks`."""
    digest = hashlib.sha256()
    for block in blocks(fs, path, size):
        digest.update(block)
    return _named(digest.hexdigest())


def blocks(fs: AbstractFileSystem, path: str, size: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file of any filesystem, piece by piece.

    :param size: of the file, if it is known: a small one then costs one request.
    """
    if isinstance(fs, MemoryFileSystem):  # its readers of one file share one position
        with lock_of(fs):
            yield bytes(fs.cat_file(path))
        return
    if s3.is_s3(fs, path) and size is not None and size <= _SMALL:
        yield s3.read(fs, path)
        return
    with fs.open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _named(hexadecimal: str) -> str:
    return f"sha256:{hexadecimal}"
