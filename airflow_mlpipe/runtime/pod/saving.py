"""Saves `checkpoint/` to the store every so often while the command runs, from a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.runtime.untouched import signatures
from airflow_mlpipe.store import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.runtime.untouched import Signature
    from airflow_mlpipe.store.store import Store


class Saving:
    """Saves a folder whenever it has changed, at most once in so many seconds, until it is ended."""

    def __init__(
        self, store: Store, fingerprint: str, folder: Path, interval: float, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._folder = folder
        self._interval = interval
        self._say = say
        self._ended = threading.Event()
        self._abandoned = threading.Event()
        self._saved: dict[str, Signature] | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self, restored: dict[str, Signature]) -> None:
        """Begin; what an earlier try had saved need not be saved again."""
        self._saved = restored
        self._thread.start()

    def end(self, *, save: bool) -> None:
        """End it, with what there is now saved if that is wanted."""
        self._ended.set()
        if not save:
            self._abandoned.set()
        self._thread.join()
        if save:
            self._save()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._save()

    def _save(self) -> None:
        """Save what has changed; one that cannot be saved costs only what would be computed again."""
        try:
            now = signatures(self._folder)
            if now != self._saved and checkpoints.save(
                self._store, self._fingerprint, self._folder, self._abandoned.is_set
            ):
                self._saved = now
                self._say("saved the checkpoint")
        except (MlpipeError, OSError) as error:
            self._say(f"the checkpoint could not be saved: {error}")
