"""Sees one pod from beside: what it looked like last is known also when it is gone."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StepError

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_mlpipe.launchers.kubernetes.cluster import Cluster, Json

_PAUSE = 1.0


class Watching:
    """Watches a pod in a thread of its own while a block is executed.

    ``last`` is the pod as it was when it was seen last: a pod that is drained is gone before anybody can ask why.
    """

    def __init__(self, cluster: Cluster, pod: Json) -> None:
        self.last = pod
        self._cluster = cluster
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # the thread ends with its connection, or with the pod

    def sees_the_end(self) -> None:
        """Wait for what may still be on its way of a pod that is gone."""
        self._thread.join(timeout=5 * _PAUSE)

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(StepError):
                if self._look():
                    return
            self._ended.wait(_PAUSE)

    def _look(self) -> bool:
        """Look until the connection ends; return whether the pod is gone."""
        for what, pod in self._cluster.watched(self.last["metadata"]["name"]):
            if pod["metadata"]["uid"] == self.last["metadata"]["uid"]:
                self.last = pod
                if what == "DELETED":
                    return True
            if self._ended.is_set():
                return True
        return False
