"""Outputs of steps: published under a fresh prefix, verified by one listing, fetched without sharing writable bytes."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import Content, content_of, digest_files, is_local, local_files
from airflow_mlpipe.store.exclusive import lock_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import StatIndex
    from airflow_mlpipe.store.store import Store

_READ_ONLY = 0o444
_FICLONE = 0x40049409
_THREADS = 8


def publish(
    store: Store, fingerprint: str, claim: str, name: str, source: Path, index: StatIndex | None = None
) -> Content:
    """Put an output into the store under the prefix of its claim; return what it is.

    Files become read-only; links are replaced by what they lead to. On the same filesystem nothing is copied. The
    source is gone afterwards, or to be removed.

    :raises FileNotFoundError: if there is no such output.
    :raises DataError: if it holds what cannot be data; it names it.
    :raises StoreUnreachableError: if the store cannot be written.
    """
    files = local_files(source)
    digests = dict(zip(files, digest_files(list(files.values()), index), strict=True))
    target = layout.output(fingerprint, claim, name)
    size = 0
    for path in files.values():
        size += path.stat().st_size
        path.chmod(_READ_ONLY)
    if _may_rename(store, source, files):
        store.upload(source, target, move=True)
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda item: store.upload(item[1], f"{target}/{item[0]}".rstrip("/")), files.items()))
    return content_of(digests, size)


def verify(store: Store, path: str, content: Content) -> str | None:
    """Return what is wrong with a published output, or None; one listing, nothing is read."""
    sizes = store.sizes(path)
    if len(sizes) < content.files:
        lost = content.files - len(sizes)
        return "it is gone" if not sizes else f"{lost} of its {content.files} files are gone"
    if len(sizes) > content.files:
        return f"it has {len(sizes)} files instead of {content.files}"
    if (size := sum(sizes.values())) != content.size:
        return f"it has {size} bytes instead of {content.size}"
    if (kind := "file" if set(sizes) == {""} else "folder") != content.kind:
        return f"it is a {kind} instead of a {content.kind}"
    return None


def fetch(fs: AbstractFileSystem, path: str, target: Path, *, link: bool = True) -> None:
    """Stage a file or a folder at a local path that does not exist yet.

    From the local disk by the first way that is safe: a clone, a hard link (to a file that nobody may write, unless
    this is root, who may write all files), a copy.

    :param link: whether links are wanted at all; otherwise it is always a copy of its own.
    :raises FileNotFoundError: if there is nothing at the path.
    :raises DataError: if it cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not is_local(fs):
        _download(fs, path, target)
        return
    for relative, source in local_files(Path(path)).items():
        place = target / relative if relative else target
        place.parent.mkdir(parents=True, exist_ok=True)
        _stage(source, place, link=link)
    if Path(path).is_dir():
        target.mkdir(exist_ok=True)


def _may_rename(store: Store, source: Path, files: dict[str, Path]) -> bool:
    """Say whether the tree can be moved as it is: no link in it, no name that the store spells differently."""
    if store.local_root is None or source.is_symlink():
        return False
    return all(
        not file.is_symlink() and (str(file.relative_to(source)) == relative or not relative)
        for relative, file in files.items()
    ) and not any(Path(parent, name).is_symlink() for parent, names, _ in os.walk(source) for name in names)


def _stage(source: Path, target: Path, *, link: bool) -> None:
    if link and (_clone(source, target) or _link(source, target)):
        return
    shutil.copyfile(source, target)
    target.chmod(_READ_ONLY if link else 0o644)


def _clone(source: Path, target: Path) -> bool:
    """Share the blocks of a file on filesystems that copy them on writing."""
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        target.chmod(_READ_ONLY)
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def _link(source: Path, target: Path) -> bool:
    status = source.stat()
    if os.geteuid() == 0 or stat.S_IMODE(status.st_mode) & 0o222:
        return False
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:  # another filesystem, or one without links
        return False
    return True


def _download(fs: AbstractFileSystem, path: str, target: Path) -> None:
    root = str(fs._strip_protocol(path)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
    try:
        with lock_of(fs):
            if fs.isfile(root):
                fs.get_file(root, str(target))
                return
            found = fs.find(root)
            if not found:
                raise FileNotFoundError(path)
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda name: _get(fs, name, target / name[len(root) :].lstrip("/")), found))
    except FileNotFoundError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        message = f"{path} cannot be read: {error}; see the credentials of its datastore"
        raise DataError(message) from error


def _get(fs: AbstractFileSystem, name: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(fs):
        fs.get_file(name, str(place))
