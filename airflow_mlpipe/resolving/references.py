"""What external data is: by its content where that is cheap, else by the version token of its filesystem.

A token is whatever the filesystem says that changes when the data does: an ETag, a checksum, a generation, a version,
else the time of the last change and the size. For a folder it is the digest of those of its files, from one listing.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.faults import nearest
from airflow_mlpipe.exceptions import DataError, MlpipeError, SourceError
from airflow_mlpipe.store import tokens
from airflow_mlpipe.store.attempts import without_password
from airflow_mlpipe.store.digests import Content, digest_object, digest_path, is_local
from airflow_mlpipe.store.exclusive import lock_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.store.digests import StatIndex


def content_of(
    uri: str, fs: AbstractFileSystem, path: str, compare: str | None, index: StatIndex | None = None
) -> tuple[Content, str | None]:
    """Return what external data is now, and the token of that version.

    :param compare: ``content``, ``version``, ``path`` (it counts as the same as long as the URI is), or None for
        content where reading costs little (local disk and memory) and the version elsewhere, where there is one.
    :param index: remembers digests of local files.
    :returns: no token where it is compared by path, or where only reading the data tells whether it changed.
    :raises DataError: if it is missing or cannot be read, or has no version to be compared by; it names the URI.
    """
    with _named(uri):
        match compare or _default(fs):
            case "content":
                return _by_content(fs, path, index)
            case "version":
                return _by_version(fs, path, required=compare is not None)
            case "path":
                return _by_path(uri, fs, path), None
            case unknown:
                message = f"it cannot be compared by {unknown!r}: write compare: content, version or path"
                raise DataError(message)


def token_now(fs: AbstractFileSystem, path: str) -> str:
    """Return the version token of a file or folder as it is now; the digest of its content if it has no token.

    :raises DataError: if it is missing or cannot be read.
    """
    with _named(path):
        return tokens.token_now(fs, path)


def has_changed(
    uri: str, fs: AbstractFileSystem, path: str, bound: tuple[Content, str | None], index: StatIndex | None = None
) -> bool:
    """Tell whether external data is no longer what it was when it was bound.

    :param bound: what `content_of` returned then.
    :raises DataError: if it is missing or cannot be read.
    """
    content, token = bound
    if content.digest.startswith("path:"):
        return False
    if token is None:
        return content_of(uri, fs, path, "content", index)[0].digest != content.digest
    with _named(uri):
        return tokens.token_now(fs, path) != token


def _default(fs: AbstractFileSystem) -> str:
    return "content" if is_local(fs) or _protocol(fs) == "memory" else "version"


def _by_content(fs: AbstractFileSystem, path: str, index: StatIndex | None) -> tuple[Content, str | None]:
    if is_local(fs):
        return digest_path(Path(path), index), None
    token, _ = tokens.version(fs, path)  # before reading, so that a change meanwhile shows later
    return digest_object(fs, path), token


def _by_version(fs: AbstractFileSystem, path: str, *, required: bool) -> tuple[Content, str | None]:
    token, content = tokens.version(fs, path)
    if token is not None:
        return content, token
    if required:
        message = f"its filesystem ({_protocol(fs)}) tells no version: write compare: content"
        raise DataError(message)
    return digest_object(fs, path), None


def _by_path(uri: str, fs: AbstractFileSystem, path: str) -> Content:
    with lock_of(fs):
        fs.invalidate_cache(path)  # listings are cached, and this asks for now
        info: Mapping[str, Any] = fs.info(path)
    if info.get("type") == "directory":
        return Content("folder", f"path:{uri}", 0, 0)
    return Content("file", f"path:{uri}", int(info.get("size") or 0), 1)


def _protocol(fs: AbstractFileSystem) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else str(fs.protocol[0])


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Name the URI in every error of the filesystem."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"there is no data at {uri}: correct the path of the reference, or provide the data{_beside(uri)}"
        raise DataError(message) from error
    except (DataError, SourceError) as error:
        message = f"the data at {uri} cannot be used: {error}"
        raise DataError(message) from error
    except MlpipeError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        reason = without_password(f"{type(error).__name__}: {error}")
        message = f"the data at {uri} cannot be read: {reason}; see the access of its datastore"
        raise DataError(message) from error


def _beside(uri: str) -> str:
    """Name the file or folder beside a local path that is called most like it."""
    place = Path(uri.removeprefix("file://"))
    try:
        near = nearest(place.name, [path.name for path in place.parent.iterdir()])
    except OSError:
        return ""
    return f". Did you mean {near}?" if near else ""
