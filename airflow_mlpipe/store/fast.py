"""The speed path to S3: small files through obstore, where that is installed and surely means the same as s3fs.

A thousand small files take half the time then, and a fifth of the processor's. Whatever it refuses, or fails at, s3fs
does: with its retries and its errors. It never creates exclusively.
"""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SMALL = 8 << 20
"""Bytes up to which a file is small; larger ones go in parts, which s3fs does well."""

_OPTIONS = {"key", "secret", "token", "endpoint_url", "client_kwargs", "config_kwargs", "use_listings_cache"}
_OF_CLIENT = {"endpoint_url", "region_name"}
_OF_CONFIG = {"retries", "max_pool_connections", "connect_timeout", "read_timeout"}
"""The storage options that are understood; any other, and s3fs does it all."""

_PLAIN = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9_.=-]*/)*[A-Za-z0-9_=-][A-Za-z0-9_.=-]*\Z")
"""Keys that no client writes in another way."""


_forked = False


def _see_fork() -> None:
    """Leave a child of a process that has loaded obstore without it: it would wait for threads that it has not."""
    global _forked  # noqa: PLW0603 -- of a process
    _forked = "obstore" in sys.modules
    _store.cache_clear()


os.register_at_fork(after_in_child=_see_fork)


def upload(fs: AbstractFileSystem, source: str, path: str) -> bool:
    """Write an object from a small local file; return whether that was done."""
    bucket, _, key = path.partition("/")
    store = _store(fs, bucket) if _PLAIN.match(key) and Path(source).stat().st_size <= SMALL else None
    if store is None:
        return False
    try:
        store.put(key, Path(source), use_multipart=False)
    except Exception:  # noqa: BLE001 -- s3fs tries it, and says what is wrong
        return False
    return True


def download(fs: AbstractFileSystem, path: str, target: str, size: int) -> bool:
    """Write a local file from an object of some bytes, if they are few; return whether that was done."""
    bucket, _, key = path.partition("/")
    store = _store(fs, bucket) if _PLAIN.match(key) and size <= SMALL else None
    if store is None:
        return False
    try:
        content = store.get(key).bytes()
    except Exception:  # noqa: BLE001 -- as above
        return False
    Path(target).write_bytes(content)
    return True


@lru_cache(maxsize=32)
def _store(fs: AbstractFileSystem, bucket: str) -> Any:  # noqa: ANN401 -- obstore's
    """Return the same bucket through obstore; None where it may not be the same."""
    options = fs.storage_options
    known = options.keys() <= _OPTIONS
    known = known and options.get("client_kwargs", {}).keys() <= _OF_CLIENT
    known = known and options.get("config_kwargs", {}).keys() <= _OF_CONFIG
    who = {"access_key_id": options.get("key"), "secret_access_key": options.get("secret")}
    if _forked or not (known and all(who.values()) and find_spec("obstore")):
        return None
    where = fs.s3.meta
    if where.endpoint_url.startswith("https:") and "AWS_CA_BUNDLE" in os.environ:
        return None
    from obstore.store import S3Store  # noqa: PLC0415 -- optional

    return S3Store(
        bucket,
        **who,
        **({"session_token": options["token"]} if options.get("token") else {}),
        endpoint=where.endpoint_url,
        region=where.region_name,
        checksum_algorithm="SHA256",
        client_options={"allow_http": where.endpoint_url.startswith("http:"), "timeout": "15s"},
        retry_config={"max_retries": 0},
    )
