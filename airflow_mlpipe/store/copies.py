"""Copies of small files that are read together again and again, in one file of the store.

A copy counts as long as a listing tells the version it was made of; so a thousand files that did not change cost a few
requests. On the local disk, where reading is as cheap as listing, there are none.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.store.store import Store

FORMAT = 1


@dataclass
class Copies:
    """The copies that one pipeline keeps: by path, the version a file had and its text."""

    store: Store
    pipeline: str
    kept: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    used: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store, pipeline: str) -> Copies:
        """Read the copies of a pipeline; those that are damaged or of another format are none."""
        kept: dict[str, tuple[str, str]] = {}
        if store.is_far:
            try:
                data = json.loads(gzip.decompress(store.read(layout.copies(pipeline))))
                if data["format"] == FORMAT:
                    kept = {path: (version, text) for path, (version, text) in data["files"].items()}
            except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):
                kept = {}
        return cls(store, pipeline, kept)

    def read_all(self, versions: Mapping[str, str]) -> dict[str, bytes]:
        """Return the bytes of files, from the copies where they are of these versions; those that are gone are left out.

        :param versions: by path, as a listing told them just now; empty where it told none.
        """
        known = {path: self.kept[path] for path, version in versions.items() if self._has(path, version)}
        read = self.store.read_all(path for path in versions if path not in known)
        self.used.update(known)
        for path, content in read.items():
            if versions[path]:
                self._use(path, versions[path], content)
        return {path: text.encode() for path, (_, text) in known.items()} | read

    def keep(self) -> None:
        """Write what was used down for the next time, if that is not what is there."""
        if self.store.is_far and self.used != self.kept:
            content = json.dumps({"format": FORMAT, "files": self.used}, ensure_ascii=False).encode()
            self.store.write(layout.copies(self.pipeline), gzip.compress(content, compresslevel=1, mtime=0))

    def _has(self, path: str, version: str) -> bool:
        return bool(version) and path in self.kept and self.kept[path][0] == version

    def _use(self, path: str, version: str, content: bytes) -> None:
        try:
            self.used[path] = version, content.decode()
        except UnicodeDecodeError:  # damaged, and to be looked at again
            return
