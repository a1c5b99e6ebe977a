"""Inputs that the command reads where they lie in a local store: the one way on which nothing protects them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.runtime.untouched import Signature, differences, signatures_at, without_change_times
from airflow_mlpipe.store.digests import digest_path

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlpipe.store.digests import Content, StatIndex
    from airflow_mlpipe.store.store import Store


@dataclass(frozen=True)
class Lent:
    """One such input, and what its files were like before the command."""

    name: str
    store: Store
    stored: str
    place: Path
    content: Content
    index: StatIndex | None
    before: dict[str, Signature] = field(repr=False)

    def changes(self) -> list[str]:
        """Return what the command changed, in words."""
        return [f"{self._named(path)} {what}" for path, what in self._differences().items()]

    def discard_damaged(self) -> None:
        """Remove from the store what the command changed or added."""
        for path in self._differences():
            self.store.remove(f"{self.stored}/{path}" if path else self.stored)

    def _differences(self) -> dict[str, str]:
        after = signatures_at(self.place)
        found = differences(without_change_times(self.before), without_change_times(after))
        if found or not (perhaps := differences(self.before, after)):
            return found
        return {} if self._is_whole() else perhaps

    def _is_whole(self) -> bool:
        """Read the data, as another step that links its files leaves the same traces as one that hides a change."""
        try:
            return digest_path(self.place, self.index).digest == self.content.digest
        except (OSError, DataError):
            return False

    def _named(self, path: str) -> str:
        return f"{self.name}/{path}" if path else self.name
