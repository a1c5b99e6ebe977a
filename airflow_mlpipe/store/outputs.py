"""Outputs of steps: published under a fresh prefix, verified by one listing, fetched without sharing writable bytes.

Nothing is synced to the disk: after a loss of power, what had not reached it is short or missing, `verify` sees that,
and the step runs again.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.attempts import retried
from airflow_mlpipe.store.digests import Content, digest_object, digest_path, digest_tree, is_local, sizes_below
from airflow_mlpipe.store.staging import Stager
from airflow_mlpipe.store.tree import files_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import StatIndex
    from airflow_mlpipe.store.store import Store
    from airflow_mlpipe.store.tree import TreeFile

T = TypeVar("T")

_THREADS = 8


def publish(store: Store, fingerprint: str, claim: str, name: str, source: Path) -> Content:
    """Put an output into the store under the prefix of its claim; return what it is.

    Files become read-only, links are replaced by what they lead to, empty folders are left out. On the store's own
    filesystem files are renamed, except those that have another name elsewhere: they are copied, as whoever has that
    name may write to them.

    :param source: a file or a folder that nobody writes to any more; it is to be removed afterwards.
    :raises FileNotFoundError: if there is no such output.
    :raises DataError: if it holds what cannot be data, or a link that leaves it; it names it.
    :raises StoreUnreachableError: if the store cannot be written.
    """
    root = os.path.abspath(source)  # noqa: PTH100 -- thousands of files: Path is slow here
    if os.path.islink(root):  # noqa: PTH114 -- as above
        message = f"{root!r} is a link; write the output itself there"
        raise DataError(message)
    files = files_of(root)
    content = digest_tree(files)
    target = layout.output(fingerprint, claim, name)
    if not files:
        store.make_folder(target)
    copied_first = sorted(files.items(), key=lambda item: _is_own(item[1]))  # while what they lead to is still there
    _for_each(partial(_upload, store, target), copied_first, parallel=store.local_root is None)
    return content


def copy(store: Store, path: str, target: str, content: Content) -> str | None:
    """Publish once more what was published; return what is wrong with it, or None.

    Nothing passes through this machine where the filesystem copies itself; on the local disk the bytes are shared where
    that can be, and never written to by one name of two.

    :param target: a path below a fresh prefix.
    """
    return copy_into(store, path, target, content) or verify(store, target, content)


def copy_into(store: Store, path: str, target: str, content: Content) -> str | None:
    """Do the same where the target holds other files, too."""
    files = store.sizes(path)
    if lost := damage(files, content):
        return lost
    if not files:
        store.make_folder(target)
    try:
        _for_each(
            lambda relative: store.copy(_at(path, relative), _at(target, relative)),
            files,
            parallel=store.local_root is None,
        )
    except FileNotFoundError:
        return "it is gone"
    return None


def verify(store: Store, path: str, content: Content) -> str | None:
    """Return what is wrong with a published output, or None; one listing, nothing is read."""
    return damage(store.sizes(path), content)


def verify_all(store: Store, outputs: Mapping[str, Content]) -> dict[str, str | None]:
    """Return the same of several outputs by path, from as few listings as the filesystem needs.

    :param outputs: what each output is, by its path.
    """
    parts = {path: parts for path in outputs if (parts := layout.output_parts(path))}
    listed = store.listings({layout.outputs(fingerprint, claim) for fingerprint, claim, _ in parts.values()})
    found: dict[str, str | None] = {path: verify(store, path, outputs[path]) for path in outputs if path not in parts}
    for path, (fingerprint, claim, name) in parts.items():
        files = listed[layout.outputs(fingerprint, claim)]
        sizes = {other[len(name) + 1 :]: files[other].size for other in files if f"{other}/".startswith(f"{name}/")}
        found[path] = damage(sizes, outputs[path])
    return found


def damage(sizes: Mapping[str, int], content: Content) -> str | None:
    """Return in words how the bytes of files, by relative path, differ from those of a content; None if they do not."""
    if not sizes and content.files:
        return "it is gone"
    if len(sizes) < content.files:
        return f"{content.files - len(sizes)} of its {content.files} files are gone"
    if len(sizes) > content.files:
        return f"it has {len(sizes)} files instead of {content.files}"
    if (kind := "file" if sizes.keys() == {""} else "folder") != content.kind:
        return f"it is a {kind} instead of a {content.kind}"
    if (size := sum(sizes.values())) != content.size:
        return f"it is {size} bytes instead of {content.size}"
    return None


def check(store: Store, path: str, content: Content, copy: Path, index: StatIndex | None = None) -> str | None:
    """Return what is wrong with the content of a published output, or None; a copy that was fetched tells.

    :param index: knows the digests of a local store's files, so that only the first copy costs another reading.
    :raises DataError: if only the copy is wrong.
    """
    if not content.digest.startswith("sha256:"):  # somebody compares it by its version
        return None
    root = store.local_root
    found = digest_path(copy) if root is None else digest_path(root / path, index)
    if found.digest == content.digest:
        return None
    if digest_object(store.fs, store.full(path)).digest != content.digest:
        return "its content is not what was recorded"
    if root is None:
        message = f"{store.uri(path)} did not arrive as it is there; run again"
        raise DataError(message)
    return None


def fetch(  # noqa: PLR0913 -- from where, to where, and how
    fs: AbstractFileSystem,
    path: str,
    target: Path,
    *,
    link: bool = True,
    ours: bool = True,
    content: Content | None = None,
    sizes: Mapping[str, int] | None = None,
    only: Collection[str] = (),
) -> bool:
    """Stage a file or a folder at a local path that does not exist yet.

    From the local disk by the first way that is safe: a clone, a hard link (to a file that nobody may write, unless
    this is root, who may write all files), a copy. What is staged never shares writable bytes with its source.
    Returns whether anything was copied.

    :param link: whether the files may be shared and are read-only; otherwise each is a writable copy of its own.
    :param ours: whether the source is the store's, which is looked after; a user's own files are never hard-linked,
        as a script may make a link writable.
    :param content: what it is, where that is known: of a folder without files some object stores know nothing.
    :param sizes: the bytes of its files by relative path, where they were just listed.
    :param only: the files of a folder that are wanted, by relative path; all where none are named.
    :raises FileNotFoundError: if there is nothing at the path, or one of the files that are wanted is not there.
    :raises DataError: if it cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is not None and not content.files:
        target.mkdir(exist_ok=True)
        return False
    root = str(fs._strip_protocol(path)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
    stager = Stager(link=link, hard=ours)
    try:
        if is_local(fs):
            _stage(root, target, stager, only)
        else:
            _download(fs, root, target, stager, sizes, only)
    except (FileNotFoundError, DataError):
        raise
    except Exception as error:  # each filesystem has errors of its own
        message = f"{fs.unstrip_protocol(root)} cannot be fetched: {error}; see the access to it, and the space here"
        raise DataError(message) from error
    return stager.copied


def _upload(store: Store, target: str, item: tuple[str, TreeFile]) -> None:
    relative, file = item
    source, own = Path(file.path), _is_own(file)
    if own and not os.access(source.parent, os.W_OK):  # the command made it read-only, and a move needs more
        source.parent.chmod(0o700)
    store.upload(source, _at(target, relative), move=own)


def _is_own(file: TreeFile) -> bool:
    """Say whether nobody can reach a file by another name."""
    return not file.linked and file.status.st_nlink == 1


def _stage(root: str, target: Path, stager: Stager, only: Collection[str]) -> None:
    files = _wanted(files_of(root), only)
    if files.keys() != {""}:
        target.mkdir(exist_ok=True)
    for relative, file in files.items():
        stager.stage(file.path, file.status, _at(str(target), relative))


def _wanted(files: Mapping[str, T], only: Collection[str]) -> Mapping[str, T]:
    if missing := [path for path in only if path not in files]:
        raise FileNotFoundError(errno.ENOENT, "it is gone", missing[0])
    return {path: files[path] for path in only} if only else files


def _download(  # noqa: PLR0913 -- as `fetch`
    fs: AbstractFileSystem,
    root: str,
    target: Path,
    stager: Stager,
    listed: Mapping[str, int] | None,
    only: Collection[str],
) -> None:
    sizes = _wanted(listed or retried(lambda: sizes_below(fs, root)), only)
    if sizes.keys() != {""}:
        target.mkdir(exist_ok=True)
    places = [(_at(root, relative), (_at(str(target), relative), size)) for relative, size in sizes.items()]
    _for_each(lambda item: retried(lambda: stager.download(fs, item[0], *item[1])), places, parallel=True)


def _for_each(action: Callable[[T], None], items: Iterable[T], *, parallel: bool) -> None:
    if parallel:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(action, items))
    else:
        for item in items:
            action(item)


def _at(root: str, relative: str) -> str:
    return f"{root}/{relative}" if relative else root
