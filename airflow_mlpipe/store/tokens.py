"""Version tokens of external data: what changes when the data does, in the words of its filesystem.

A token is whatever the filesystem says: an ETag, a checksum, a generation, a version, else the time of the last change
and the size. For a folder it is the digest of those of its files, from one listing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from airflow_mlpipe.fingerprint import encode
from airflow_mlpipe.store.digests import Content, digest_object
from airflow_mlpipe.store.listing import listing, version_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def version(fs: AbstractFileSystem, path: str) -> tuple[str | None, Content]:
    """Return the token of a file or folder, None if it has none, and its content compared by that.

    :raises FileNotFoundError: if there is nothing.
    """
    entries = listing(fs, path)
    if entries.keys() == {""}:
        token = version_of(entries[""])
        return token, Content("file", f"version:{token}", int(entries[""].get("size") or 0), 1)
    tokens = {name: version_of(entry) for name, entry in entries.items()}
    token = None if None in tokens.values() else hashlib.sha256(encode(sorted(tokens.items()))).hexdigest()
    size = sum(int(entry.get("size") or 0) for entry in entries.values())
    return token, Content("folder", f"version:{token}", size, len(entries))


def token_now(fs: AbstractFileSystem, path: str) -> str:
    """Return the token of a file or folder as it is now; the digest of its content if it has no token.

    :raises FileNotFoundError: if there is nothing.
    """
    token, _ = version(fs, path)
    return token or digest_object(fs, path).digest
