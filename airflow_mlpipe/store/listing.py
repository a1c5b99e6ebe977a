"""What lies at or below a path of any filesystem but the local disk, as that filesystem tells it now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.store import s3
from airflow_mlpipe.store.exclusive import lock_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

_LISTED_FIRST = {"gs", "gcs", "abfs", "abfss", "az", "adl"}
"""The protocols of object stores, where nothing but a listing tells a folder."""


def listing(fs: AbstractFileSystem, path: str) -> dict[str, Mapping[str, Any]]:
    """Return what is told of every file at or below a path, by relative path; of a single file, under the empty one.

    One request, or one a thousand files, where the filesystem can do that: nothing is asked of single files.

    :raises FileNotFoundError: if there is nothing.
    """
    root = str(fs._strip_protocol(path)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
    with lock_of(fs):
        if s3.is_s3(fs, root):
            found = s3.listing(fs, root)
            if found is None:
                raise FileNotFoundError(path)
            return found
        fs.invalidate_cache(root)  # listings are cached, and this asks for now
        return _object_store(fs, root) if _protocols(fs) & _LISTED_FIRST else _other(fs, root)


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
    return {name[len(root) :].lstrip("/"): entry for name, entry in files.items()}


def _protocols(fs: AbstractFileSystem) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
