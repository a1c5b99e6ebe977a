"""The door to one store: an output store on any fsspec filesystem.

Paths are relative to its root, with ``/``; `layout` makes them. What may pass is tried again, and everything else a
filesystem raises becomes a `StoreUnreachableError`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import RecordFormatError, StoreUnreachableError
from airflow_mlpipe.store import exclusive, layout, s3
from airflow_mlpipe.store.attempts import attempt, without_password
from airflow_mlpipe.store.places import Listed, Place, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fsspec import AbstractFileSystem

T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """An output store. ``root`` is the path of its root in the words of ``fs``.

    :raises StoreUnreachableError: (every method) if the store does not answer or refuses.
    """

    url: str
    fs: AbstractFileSystem
    root: str

    @classmethod
    def open(cls, url: str, storage_options: Mapping[str, Any] | None = None) -> Store:
        """Return the store at a URL or a local path; nothing is read or written yet.

        :raises StoreUnreachableError: if nothing here can open such a URL.
        """
        if "://" not in url and "::" not in url:
            url = "file://" + os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111 -- becomes a URL
        options = dict(storage_options or {})
        if not url.startswith(("file:", "memory:")):
            options.setdefault("use_listings_cache", False)  # others write here, too
        try:
            fs, root = s3.open_url(url, options)
        except (ValueError, ImportError, TypeError) as error:
            message = (
                f"the store {without_password(url)} cannot be opened: {without_password(str(error))}; correct the URL, or "
                "install what its filesystem needs (extras of airflow-mlpipe: s3, gcs, azure)"
            )
            raise StoreUnreachableError(message) from error
        return cls(url, fs, root.rstrip("/"))

    @property
    def is_far(self) -> bool:
        """Whether each look at it is a request to a service."""
        return not isinstance(self.fs, LocalFileSystem | MemoryFileSystem)

    @property
    def local_root(self) -> Path | None:
        """Where the root lies on the local disk; None on other filesystems."""
        return Path(self.root) if isinstance(self.fs, LocalFileSystem) else None

    def read(self, path: str) -> bytes:
        """Return the bytes of a file.

        :raises FileNotFoundError: if it does not exist.
        """
        return self._attempt("read", path, self._place.read)

    def read_all(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several files, side by side where that is faster; those that do not exist are left out."""
        wanted = {self.full(path): path for path in paths}
        found = attempt(self.url, f"read {len(wanted)} files", lambda: self._place.read_all(wanted))
        return {wanted[full]: content for full, content in found.items()}

    def read_json(self, path: str) -> Any:  # noqa: ANN401 -- whatever JSON holds
        """Return what a JSON file holds.

        :raises FileNotFoundError: if it does not exist.
        :raises RecordFormatError: if it is damaged.
        """
        return self.decode(path, self.read(path))

    def decode(self, path: str, content: bytes) -> Any:  # noqa: ANN401 -- whatever JSON holds
        """Return what the bytes of a JSON file hold.

        :raises RecordFormatError: if they are damaged; it names the file.
        """
        try:
            return json.loads(content)
        except ValueError as error:
            message = f"{self.uri(path)} is damaged ({error}); remove it, then run again"
            raise RecordFormatError(message) from error

    def reader(self, path: str) -> IO[bytes]:
        """Open a file to read it from its beginning to its end.

        :raises FileNotFoundError: if it does not exist.
        """
        return self._attempt("read", path, self._place.reader)

    def write(self, path: str, content: bytes) -> None:
        """Write a file, or replace it; nobody ever sees half of it."""
        self._attempt("write", path, lambda full: self._place.write(full, content))

    def create(self, path: str, content: bytes) -> bool:
        """Create a file unless it exists; return whether this call did.

        The content should be unlike any other: where the answer of the filesystem was lost, it tells who won.

        :raises StoreNotExclusiveError: if the filesystem cannot do that.
        """
        self._check_exclusive()
        tries = 0

        def action(full: str) -> bool:
            nonlocal tries
            tries += 1
            created = exclusive.create_exclusive(self.fs, full, content)
            return created or (tries > 1 and self._place.read(full) == content)

        return self._attempt("create", path, action)

    def upload(self, source: Path, path: str, *, move: bool = False) -> None:
        """Copy a local file into the store, read-only where that exists; nobody ever sees half of it.

        :param move: the source may be gone afterwards, as it is where a rename is enough.
        """
        self._attempt("write", path, lambda full: self._place.upload(os.fspath(source), full, move=move))

    def copy(self, source: str, path: str) -> None:
        """Copy a file within the store, where it can by the filesystem itself.

        :raises FileNotFoundError: if there is none.
        """
        full_source = self.full(source)
        self._attempt("copy", path, lambda full: self._place.copy(full_source, full))

    def make_folder(self, path: str) -> None:
        """Make an empty folder, on filesystems that have such a thing."""
        self._attempt("make", path, self._place.make_folder)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of every file below a prefix by relative path, of a file itself as ``{"": bytes}``."""
        return self._attempt("list", prefix, self._place.sizes)

    def listings(self, prefixes: Iterable[str]) -> dict[str, dict[str, Listed]]:
        """Return what is told of every file below several folders, by folder and relative path: bytes and version.

        One request tells of many folders where the filesystem can do that.
        """
        wanted = {self.full(prefix): prefix for prefix in prefixes}
        found = attempt(self.url, f"list {len(wanted)} folders", lambda: self._place.listings(wanted))
        return {wanted[full]: files for full, files in found.items()}

    def names(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, sorted; those of files being written begin with a dot."""
        return self._attempt("list", prefix, self._place.names)

    def exists(self, path: str) -> bool:
        """Say whether a file exists."""
        return self._attempt("look up", path, self._place.exists)

    def remove(self, prefix: str) -> None:
        """Remove a file or a tree; it may be absent."""
        self._attempt("remove", prefix, self._place.remove)

    def uri(self, path: str) -> str:
        """Return the URI of a path."""
        return str(self.fs.unstrip_protocol(self.full(path)))

    def path_of(self, uri: str) -> str | None:
        """Return the path that a URI of this store stands for; None for any other."""
        protocols = (self.fs.protocol,) if isinstance(self.fs.protocol, str) else tuple(self.fs.protocol)
        if uri.partition("://")[0] not in protocols:
            return None
        full = str(self.fs._strip_protocol(uri)).rstrip("/")  # noqa: SLF001 -- fsspec has no public name for it
        if full == self.root:
            return ""
        if ".." in full.split("/"):
            return None
        return full[len(self.root) + 1 :] if full.startswith(self.root + "/") else None

    def full(self, path: str) -> str:
        """Return a path in the words of the filesystem.

        :raises ValueError: if it would leave the store.
        """
        if ".." in path.split("/"):
            message = f"not a path in a store: {path!r}"
            raise ValueError(message)
        return f"{self.root}/{path}" if path else self.root

    @cached_property
    def _place(self) -> Place:
        return place_of(self.fs, self.root)

    def _attempt(self, verb: str, path: str, action: Callable[[str], T]) -> T:
        full = self.full(path)
        return attempt(self.url, f"{verb} {path}", lambda: action(full))

    def _check_exclusive(self) -> None:
        """Probe the filesystem, unless it is one we know, or the store says that it was probed."""
        if not self.is_far or self._probed:
            return
        path = layout.probed(exclusive.client_of(self.fs))
        if not self.exists(path):
            self._attempt("probe", path, lambda _: exclusive.probe(self.fs, self.root))
            self.write(path, b"creates exclusively\n")
        self._probed.append(True)

    @cached_property
    def _probed(self) -> list[bool]:
        return []
