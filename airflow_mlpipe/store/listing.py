"""What lies at or below a path of any filesystem but the local disk, as that filesystem tells it now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import s3
from airflow_mlpipe.store.exclusive import lock_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

_VERSIONS = ("etag", "md5", "md5hash", "content_md5", "checksum", "generation", "version_id", "versionid", "version")
"""What filesystems call a version, best first; an unversioned bucket says `null` for it."""

_TIMES = ("mtime", "lastmodified", "last_modified", "modified", "updated", "created")

_NO_NAMES = {"", ".", ".."}

_LISTED_FIRST = {"gs", "gcs", "abfs", "abfss", "az", "adl"}
"""The protocols of object stores, where nothing but a listing tells a folder."""


def listing(fs: AbstractFileSystem, path: str) -> dict[str, Mapping[str, Any]]:
    """Return what is told of every file at or below a path, by relative path; of a single file, under the empty one.

    One request, or one a thousand files, where the filesystem can do that: nothing is asked of single files.

    :raises FileNotFoundError: if there is nothing.
    :raises DataError: if a name cannot be that of a file in a folder, as `..` in the key of an object.
    """
    root = str(fs._strip_protocol(path)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
    found = _listing(fs, root)
    for name in found:
        if name and not _NO_NAMES.isdisjoint(name.split("/")):
            message = (
                f"{fs.unstrip_protocol(root)} holds {name!r}, which no folder on a disk can hold; rename or remove it"
            )
            raise DataError(message)
    return found


def _listing(fs: AbstractFileSystem, root: str) -> dict[str, Mapping[str, Any]]:
    with lock_of(fs):
        if s3.is_s3(fs, root):
            found = s3.listing(fs, root)
            if found is None:
                raise FileNotFoundError(root)
            return found
        fs.invalidate_cache(root)  # listings are cached, and this asks for now
        return _object_store(fs, root) if _protocols(fs) & _LISTED_FIRST else _other(fs, root)


def version_of(info: Mapping[str, Any]) -> str | None:
    """Return what tells this version of a file from others, from what a filesystem tells of it; None if nothing does.

    An ETag, a checksum, a generation, a version, else the time of the last change and the size.
    """
    named = {key.lower(): value for key, value in info.items() if value not in (None, "", "null")}
    for key in _VERSIONS:
        if key in named:
            return f"{key}:{_text(named[key])}"
    time = next((_text(named[key]) for key in _TIMES if key in named), None)
    return None if time is None else f"time:{time} size:{info.get('size')}"


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes | bytearray) else str(value).strip('"')


def _object_store(fs: AbstractFileSystem, root: str) -> dict[str, Mapping[str, Any]]:
    found = fs.find(root, detail=True)
    if not found or set(found) == {root}:
        return _other(fs, root)
    return _below(root, found)


def _other(fs: AbstractFileSystem, root: str) -> dict[str, Mapping[str, Any]]:
    info: Mapping[str, Any] = fs.info(root)
    return _below(root, fs.find(root, detail=True)) if info["type"] == "directory" else {"": info}


def _below(root: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    files = {name: entry for name, entry in found.items() if entry["type"] != "directory" and not name.endswith("/")}
    return {name[len(root) :].removeprefix("/"): entry for name, entry in files.items()}


def _protocols(fs: AbstractFileSystem) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
