"""Keeps `checkpoint/` for the next try of a step that asks for it, where the launcher itself sees the step directory."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.store import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_mlpipe.runtime.stage import Staged
    from airflow_mlpipe.store.store import Store


@contextlib.contextmanager
def checkpointed(store: Store, staged: Staged, fingerprint: str, log: Callable[[str], None]) -> Iterator[None]:
    """Begin a command with what its last try saved, and save that again if the block ends with an error.

    :raises StoreUnreachableError: if the store cannot be read.
    """
    if not staged.spec.checkpoint:
        yield
        return
    key, folder = staged.spec.saved_under(fingerprint), staged.directory.checkpoint
    if checkpoints.restore(store, key, folder):
        log("goes on from the checkpoint that an earlier try saved")
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        try:
            checkpoints.save(store, key, folder)
        except (MlpipeError, OSError) as failure:  # costs only what is computed again
            log(f"the checkpoint could not be saved: {failure}")
        raise
