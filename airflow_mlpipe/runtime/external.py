"""Inputs from outside the store: whether they are what was bound, when staged and after the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.exceptions import DataChangedError
from airflow_mlpipe.store.digests import StatIndex, digest_object, digest_path, is_local
from airflow_mlpipe.store.outputs import fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.runtime.protocol import InputSpec

OpenUri: TypeAlias = "Callable[[str, str | None], tuple[Any, str]]"
"""Opens a URI with the credentials of a datastore: ``(uri, datastore) -> (fsspec filesystem, path)``."""

TokenNow: TypeAlias = "Callable[[Any, str], str]"
"""Returns the version of the data at a path of a filesystem, in the words of that filesystem."""


@dataclass(frozen=True)
class External:
    """One input from outside the store."""

    name: str
    bound: InputSpec
    fs: Any
    path: str
    token_now: TokenNow

    @property
    def local(self) -> Path | None:
        """Where the data lies on the local disk; None for other filesystems."""
        return Path(self.path) if is_local(self.fs) else None

    def stage(self, target: Path, index: StatIndex | None) -> None:
        """Bring the data to a path and make sure that it is what was bound.

        :raises DataChangedError: if it is not.
        """
        self.check(index)
        fetch(self.fs, self.path, target, link=self.bound.mode == "mount", ours=False)
        if self.local is not None:
            self.check(index)  # unchanged from before to after the copy, so the copy is it
        elif self._by_content():
            self._compare(digest_path(target).digest)

    def check(self, index: StatIndex | None, *, thoroughly: bool = False) -> None:
        """Make sure that the data still is what was bound, as far as that can be told without reading it.

        :param thoroughly: read it where nothing else tells.
        :raises DataChangedError: if it is not.
        """
        try:
            self._check(index, thoroughly=thoroughly)
        except FileNotFoundError as error:
            raise self._changed(self.bound.content.digest if self.bound.content else "there", "gone") from error

    def _check(self, index: StatIndex | None, *, thoroughly: bool) -> None:
        if self.bound.token is not None:
            self._compare_token(self.bound.token)
        if not self._by_content():
            return
        if self.local is not None:
            self._compare(digest_path(self.local, index).digest)
        elif thoroughly and self.bound.token is None:
            self._compare(digest_object(self.fs, self.path).digest)

    def _by_content(self) -> bool:
        return self.bound.content is not None and self.bound.content.digest.startswith("sha256:")

    def _compare(self, digest: str) -> None:
        if self.bound.content is not None and digest != self.bound.content.digest:
            raise self._changed(self.bound.content.digest, digest)

    def _compare_token(self, token: str) -> None:
        now = self.token_now(self.fs, self.path)
        if now != token:
            raise self._changed(token, now)

    def _changed(self, before: str, now: str) -> DataChangedError:
        message = (
            f"input {self.name!r} changed after the step was planned: {self.bound.uri} was {before} and is {now}; "
            "nothing is recorded, run the step again"
        )
        return DataChangedError(message)
