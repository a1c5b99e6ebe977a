"""The one primitive on which runs agree: creating a file that does not exist, by one of them only.

Locally a temporary file is written, synced and linked to its name: the file appears whole, and once. Elsewhere it is
the conditional put of the filesystem, which has to pass a `probe` before it is trusted.
"""

# ruff: noqa: PTH103, PTH108, PTH116, PTH120, PTH123 -- plain strings, on the hottest way to the disk

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import StoreNotExclusiveError
from airflow_mlpipe.store import s3

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem

PROBE = ".probe-"
"""How the names of the files begin with which a store is probed."""

_RACERS = 8
_ROUNDS = 3
_TRIES = 10
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_ASIDE = re.compile(r"\.[0-9a-f]{16}\.tmp\Z")
_memory = threading.RLock()


def lock_of(fs: AbstractFileSystem) -> contextlib.AbstractContextManager[Any]:
    """Return what must be held to use a filesystem: a lock for ``memory://``, whose threads share one dictionary."""
    return _memory if isinstance(fs, MemoryFileSystem) else contextlib.nullcontext()


def create_exclusive(fs: AbstractFileSystem, path: str, content: bytes) -> bool:
    """Create a file unless it exists; return whether this call created it. The file is complete or absent.

    On object stores the content should be unlike any other, so that an answer that was lost can be told from a lost
    race: a file that holds just this content counts as created by this call.

    :raises StoreNotExclusiveError: if the filesystem cannot do that.
    """
    if isinstance(fs, LocalFileSystem):
        return _link(path, content)
    if isinstance(fs, MemoryFileSystem):
        with _memory:
            if fs.exists(path):
                return False
            fs.pipe_file(path, content)
            return True
    return _put(fs, path, content)


def probe(fs: AbstractFileSystem, root: str) -> None:
    """Try whether a filesystem creates exclusively, with several writers at once.

    :raises StoreNotExclusiveError: if a second writer succeeded, or none did.
    """
    for _ in range(_ROUNDS):
        path = f"{root}/{PROBE}{secrets.token_hex(8)}"
        try:
            with ThreadPoolExecutor(_RACERS) as pool:
                contents = [secrets.token_bytes(16) for _ in range(_RACERS)]
                won = list(pool.map(partial(create_exclusive, fs, path), contents))
            late = create_exclusive(fs, path, b"late")
            kept = [content for content, winner in zip(contents, won, strict=True) if winner]
            if late or kept != [_read(fs, path)]:
                reason = f"{len(kept) + late} of {_RACERS + 1} writers created the same file through {client_of(fs)}"
                raise _not_exclusive(root, reason)
        finally:
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)


def client_of(fs: AbstractFileSystem) -> str:
    """Name what talks to a filesystem, and its versions: an older one may drop the condition before it is sent."""
    kind = type(fs)
    packages = {kind.__module__.partition(".")[0], *(["botocore"] if s3.is_s3(fs, "") else [])}
    versions = ((name, getattr(sys.modules.get(name), "__version__", "")) for name in sorted(packages))
    return " ".join([kind.__qualname__, *(f"{name} {version}" for name, version in versions if version)])


def _link(path: str, content: bytes) -> bool:
    folder = os.path.dirname(path)
    aside = aside_in(folder)
    try:
        write_synced(aside, content)
        os.link(aside, path)
    except OSError as error:
        if _linked(aside):  # only the answer of a network filesystem was lost
            return True
        if error.errno in _NO_LINKS:
            raise _not_exclusive(folder, f"it cannot link files ({error.strerror})") from error
        if error.errno == errno.EEXIST:
            return False
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
    sync_folder(folder)
    return True


def aside_in(folder: str) -> str:
    """Return a path for what is written before it gets its name; whoever is killed leaves it behind."""
    return f"{folder}/.{secrets.token_hex(8)}.tmp"


def is_aside(name: str) -> bool:
    """Say whether a file name is one that `aside_in` gives."""
    return _ASIDE.match(name) is not None


def _linked(aside: str) -> bool:
    try:
        return os.stat(aside).st_nlink == 2  # noqa: PLR2004 -- its own name and the one it was to get
    except OSError:
        return False


def write_synced(path: str, content: bytes) -> None:
    """Write a local file that survives a loss of power, making its folder where necessary."""
    with create_file(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def create_file(path: str) -> Any:  # noqa: ANN401 -- a binary file
    """Open a new local file for writing, making its folder where necessary; others may remove it while it is empty."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return open(path, "xb")
        _make_folder(os.path.dirname(path))
    return open(path, "xb")


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except (FileNotFoundError, FileExistsError):
        if os.path.lexists(folder):
            raise


def sync_folder(folder: str) -> None:
    """Make the names in a local folder survive a loss of power."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _put(fs: AbstractFileSystem, path: str, content: bytes) -> bool:
    try:
        if s3.is_s3(fs, path):
            s3.create(fs, path, content)
        else:
            making_folder(fs, path, lambda: fs.pipe_file(path, content, mode="create"))
    except Exception as error:  # noqa: BLE001 -- each filesystem has its own word for "it exists"
        try:
            return _read(fs, path) == content
        except FileNotFoundError:
            raise error from None
    return True


def _read(fs: AbstractFileSystem, path: str) -> bytes:
    return s3.read(fs, path) if s3.is_s3(fs, path) else bytes(fs.cat_file(path))


def making_folder(fs: AbstractFileSystem, path: str, action: Callable[[], object]) -> None:
    """Write a file by an action, making its folder first on filesystems that want that."""
    try:
        action()
    except FileNotFoundError:
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        action()


def _not_exclusive(place: str, reason: str) -> StoreNotExclusiveError:
    message = (
        f"runs cannot share a store at {place}: {reason}; "
        "choose an object store with conditional writes (those of AWS, Google and Azure have them, `rclone serve s3` has "
        "not), upgrade what talks to it, or choose a local disk"
    )
    return StoreNotExclusiveError(message)
