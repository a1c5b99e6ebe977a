"""S3 through s3fs, in as few requests as it takes: s3fs itself asks for sizes, kinds and parents that nobody needs here.

Only public methods of s3fs are used; any other filesystem with them will do.
"""

from __future__ import annotations

import errno
import inspect
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs

from airflow_mlpipe.store import fast

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from fsspec import AbstractFileSystem

_CONFIG = {
    "retries": {"mode": "standard", "total_max_attempts": 2},
    "max_pool_connections": 32,
    "connect_timeout": 10,
    "read_timeout": 30,
}
_RETRIES = 2
"""Of s3fs, around those of its client: five of each would make a read from a silent server last half an hour."""

_PARTS = {"chunksize": 16 << 20, "max_concurrency": 4}
"""Of large objects: several of them are under way at once, and each part is held in memory."""

_PAGE = 1000
_LISTERS = 16
_SWEEP = 128
"""Folders that are listed one after another, at the least, when many are."""

_GAP = 60
"""Objects between two folders that cost as much to be listed and left out as another request."""

_UNSORTED = "--x-s3"
"""How the names of directory buckets end, which list no part of a name, and in no order."""


def open_url(url: str, options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem of any URL and the path in it; one of S3 gives up in minutes, unless options say otherwise.

    :raises ValueError: if nothing is known of such URLs.
    :raises ImportError: if its driver is not installed.
    """
    if not url.startswith(("s3:", "s3a:")):
        fs, path = url_to_fs(url, **options)
        return fs, path
    given = options.get("config_kwargs", {})
    fs, path = url_to_fs(url, **{**options, "config_kwargs": {**_CONFIG, **given}})
    if "retries" not in given and hasattr(fs, "retries"):
        fs.retries = _RETRIES
    return fs, path


def is_s3(fs: AbstractFileSystem, path: str) -> bool:
    """Say whether a path lies in a bucket of S3 that lists names in order."""
    return hasattr(fs, "call_s3") and not path.partition("/")[0].endswith(_UNSORTED)


def read_all(fs: AbstractFileSystem, paths: list[str]) -> dict[str, bytes | Exception]:
    """Return the bytes of objects, or why they cannot be read: one request each, side by side."""
    found: dict[str, bytes | Exception] = fs.cat(paths, recursive=False, on_error="return", **_whole(fs))
    return {
        path: _explained(answer, path) if isinstance(answer, Exception) else answer for path, answer in found.items()
    }


def read(fs: AbstractFileSystem, path: str) -> bytes:
    """Return the bytes of an object: one request.

    :raises FileNotFoundError: if it does not exist.
    """
    with _in_bucket_of(path):
        return bytes(fs.cat_file(path, **_whole(fs)))


def write(fs: AbstractFileSystem, path: str, content: bytes) -> None:
    """Write an object: one request."""
    with _in_bucket_of(path):
        fs.pipe_file(path, content)


def create(fs: AbstractFileSystem, path: str, content: bytes) -> None:
    """Write an object that does not exist: one request.

    :raises Exception: of some kind, if it does.
    """
    with _in_bucket_of(path):
        fs.pipe_file(path, content, mode="create")


def upload(fs: AbstractFileSystem, source: str, path: str) -> None:
    """Write an object from a local file: one request, or several for a large one."""
    if fast.upload(fs, source, path):
        return
    with _in_bucket_of(path):
        fs.put_file(source, path, **_known(fs.put_file, _PARTS))


def download(fs: AbstractFileSystem, path: str, target: str, size: int) -> None:
    """Write a local file from an object of some bytes: one request, or several for a large one."""
    if not fast.download(fs, path, target, size):
        fs.get_file(path, target, **_known(fs.get_file, _PARTS))


def make_folder(fs: AbstractFileSystem, path: str) -> None:
    """Write the mark of an empty folder: one request."""
    bucket, key = _split(fs, path)
    with _in_bucket_of(path):
        fs.call_s3("put_object", Bucket=bucket, Key=f"{key}/", Body=b"")


def exists(fs: AbstractFileSystem, path: str) -> bool:
    """Say whether there is an object: one request."""
    bucket, key = _split(fs, path)
    try:
        fs.call_s3("head_object", Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


def names(fs: AbstractFileSystem, path: str) -> list[str]:
    """Return the names directly below a path, sorted: one request a thousand."""
    bucket, key = _split(fs, path)
    prefix = f"{key}/" if key else ""
    found: set[str] = set()
    with _in_bucket_of(path):
        for page in _pages(fs, bucket, prefix, Delimiter="/"):
            found.update(entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", ()))
            found.update(entry["Key"][len(prefix) :] for entry in page.get("Contents", ()))
    return sorted(found - {""})


def listing(fs: AbstractFileSystem, path: str) -> dict[str, Mapping[str, Any]] | None:
    """Return what a listing tells of the objects at or below a path, by relative path: one request a thousand.

    An object of just that name is returned alone, under the empty path.

    :returns: None if there is nothing at all; nothing in it if there is only the mark of an empty folder.
    """
    found = _at_or_below(fs, path)
    if not found:
        return None
    files: dict[str, Mapping[str, Any]] = {}
    for rest, entry in found.items():
        if not rest.endswith("/"):
            files[rest[1:]] = _told(entry)
    return {"": files[""]} if "" in files else files


def listings(fs: AbstractFileSystem, folders: Collection[str]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what listings tell of the objects below several folders of a bucket, by folder and relative path.

    Where little lies between the folders, one request tells of many. None of them may lie inside another.
    """
    if not folders:
        return {}
    keys = {f"{_split(fs, folder)[1]}/": folder for folder in folders}
    bucket, prefixes = _split(fs, next(iter(folders)))[0], sorted(keys)
    size = max(_SWEEP, -(-len(prefixes) // _LISTERS))
    parts = [prefixes[start : start + size] for start in range(0, len(prefixes), size)]
    found: dict[str, list[Mapping[str, Any]]] = {}
    with _in_bucket_of(bucket), ThreadPoolExecutor(_LISTERS) as pool:
        for swept in pool.map(lambda part: _sweep(fs, bucket, part), parts):
            found.update(swept)
        alone = [prefix for prefix in prefixes if prefix not in found]
        found.update(zip(alone, pool.map(lambda prefix: _all_below(fs, bucket, prefix), alone), strict=True))
    return {
        keys[prefix]: {entry["Key"][len(prefix) :]: _told(entry) for entry in entries if not entry["Key"].endswith("/")}
        for prefix, entries in found.items()
    }


def remove(fs: AbstractFileSystem, path: str) -> None:
    """Remove the objects at and below a path: two requests a thousand.

    :raises PermissionError: if some may not be removed.
    """
    bucket, _ = _split(fs, path)
    doomed = [{"Key": entry["Key"]} for entry in _at_or_below(fs, path).values()]
    if len(doomed) == 1:
        fs.call_s3("delete_object", Bucket=bucket, **doomed[0])
        return
    for start in range(0, len(doomed), _PAGE):
        batch = {"Objects": doomed[start : start + _PAGE], "Quiet": True}
        answer = fs.call_s3("delete_objects", Bucket=bucket, Delete=batch)
        for refusal in answer.get("Errors", ()):
            number = errno.EACCES if refusal.get("Code") == "AccessDenied" else errno.EIO
            raise OSError(number, f"{refusal.get('Key')} was not removed: {refusal.get('Message')}")


def _at_or_below(fs: AbstractFileSystem, path: str) -> dict[str, Mapping[str, Any]]:
    """Return what is told of the objects at and below a path, by the rest of their keys: empty, or with a slash."""
    bucket, key = _split(fs, path)
    with _in_bucket_of(path):
        if not key:
            return {f"/{entry['Key']}": entry for entry in _all_below(fs, bucket, "")}
        return dict(_collect(fs, bucket, key))


def _collect(fs: AbstractFileSystem, bucket: str, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List by a prefix without slash, which shows the object itself first, but also others: key-1, key.txt, key2."""
    for page in _pages(fs, bucket, key):
        rests = [(entry["Key"][len(key) :], entry) for entry in page.get("Contents", ())]
        yield from ((rest, entry) for rest, entry in rests if not rest or rest.startswith("/"))
        last = rests[-1][0] if rests else ""
        if not last.startswith("/"):
            break  # nothing is below, or it comes after others, which may be many
    if page.get("IsTruncated") and last < "/":
        yield from ((entry["Key"][len(key) :], entry) for entry in _all_below(fs, bucket, f"{key}/"))


def _sweep(fs: AbstractFileSystem, bucket: str, prefixes: list[str]) -> dict[str, list[Mapping[str, Any]]]:
    """List what begins with sorted prefixes, jumping over what lies between them; up to where that is too much."""
    found: dict[str, list[Mapping[str, Any]]] = {prefix: [] for prefix in prefixes}
    limit = _PAGE if len(prefixes) == 1 else min(_PAGE, 4 * len(prefixes) + _GAP)
    common, position, after = _common(prefixes[0], prefixes[-1]), 0, ""
    while position < len(prefixes):
        start = max(after, prefixes[position])
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=common, StartAfter=start, MaxKeys=limit)
        before, between = position, 0
        for entry in page.get("Contents", ()):
            after = entry["Key"]
            while position < len(prefixes) and prefixes[position] < after and not after.startswith(prefixes[position]):
                position += 1
            if position < len(prefixes) and after.startswith(prefixes[position]):
                found[prefixes[position]].append(entry)
            else:
                between += 1
        if not page.get("IsTruncated"):
            break
        if between > _GAP * (position - before + 1):
            return {prefix: found[prefix] for prefix in prefixes[:position]}
        limit = _PAGE
    return found


def _all_below(fs: AbstractFileSystem, bucket: str, prefix: str) -> list[Mapping[str, Any]]:
    return [entry for page in _pages(fs, bucket, prefix) for entry in page.get("Contents", ())]


def _common(first: str, last: str) -> str:
    """Return what all texts between two begin with."""
    return first[
        : next((index for index, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    ]


def _told(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**entry, "size": entry["Size"], "type": "file"}


def _pages(fs: AbstractFileSystem, bucket: str, prefix: str, **options: str) -> Iterator[Mapping[str, Any]]:
    token: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE, **options, **token)
        yield page
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _split(fs: AbstractFileSystem, path: str) -> tuple[str, str]:
    bucket, key, _ = fs.split_path(path)
    return bucket, key.rstrip("/")


def _whole(fs: AbstractFileSystem) -> dict[str, int]:
    """Return what makes s3fs read an object without asking for its size first, to read parts of it side by side."""
    return _known(fs.cat_file, {"max_concurrency": 1})


def _known(method: Callable[..., object], options: Mapping[str, int]) -> dict[str, int]:
    """Return those options that a method of this version of s3fs takes."""
    parameters = inspect.signature(method).parameters
    return {name: value for name, value in options.items() if name in parameters}


@contextmanager
def _in_bucket_of(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _explained(error, path) from error


def _explained(error: Exception, path: str) -> Exception:
    """Return an error that tells a missing bucket, which is a mistake, from a missing object."""
    response: Mapping[str, Any] = getattr(error.__cause__, "response", None) or {}
    if response.get("Error", {}).get("Code") == "NoSuchBucket":
        return OSError(errno.ENXIO, f"there is no bucket {path.partition('/')[0]!r}")
    return error
