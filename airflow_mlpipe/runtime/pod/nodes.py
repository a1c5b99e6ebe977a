"""How the sidecars of the nodes of one step agree: the outputs of the first count when all others have ended well.

They meet in the store, so that no pod needs the API of the cluster. A node that fails says nothing, and the first one is
ended then, before it has published anything.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StoreError
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    import threading

    from airflow_mlpipe.runtime.pod.access import Told
    from airflow_mlpipe.store.store import Store

LOOK_SECONDS = 0.5


class Nodes:
    """What one node says to the others, and hears of them."""

    def __init__(self, store: Store, told: Told) -> None:
        self._store = store
        self._told = told

    def begin(self) -> None:
        """Take back what an earlier pod of this node has said, whose place this one takes in the same Job.

        :raises StoreError: if the store cannot be reached.
        """
        if self._told.node != 0:
            self._store.remove(self._path(self._told.node))

    def say_ended(self) -> None:
        """Say that the command of this node has ended well.

        :raises StoreError: if that cannot be written.
        """
        self._store.write(self._path(self._told.node), b"0\n")

    def others_ended(self, stopped: threading.Event) -> bool:
        """Wait until all others have said so; return False if this pod is ended meanwhile."""
        missing = set(range(1, self._told.nodes))
        while missing:
            missing = {node for node in missing if not self._store.exists(self._path(node))}
            if missing and stopped.wait(LOOK_SECONDS):
                return False
        return True

    def forget(self) -> None:
        """Remove what all have said, when node 0 has published: a sidecar that is started again before asks once more."""
        if self._told.nodes > 1 and self._told.node == 0:
            with suppress(StoreError):  # a few bytes
                self._store.remove(layout.nodes(self._told.fingerprint, self._told.claim))

    def _path(self, node: int) -> str:
        return layout.node(self._told.fingerprint, self._told.claim, self._told.attempt, node)
