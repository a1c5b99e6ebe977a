"""The pods of many nodes as they were seen last, those that are gone too; pure."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.kubernetes.state import is_leaving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Json = dict[str, Any]


class Sightings:
    """Remembers pods, by any thread; who was deleted first is known although the API tells no more than the second."""

    def __init__(self, pods: Sequence[Json] = ()) -> None:
        self._pods: dict[str, Json] = {}
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()
        self.take(pods)

    def take(self, pods: Sequence[Json]) -> None:
        """Remember how pods are; what is older than what is known is passed over."""
        with self._lock:
            for pod in pods:
                uid, version = pod["metadata"]["uid"], _version(pod)
                if is_leaving(pod):
                    self._left[uid] = min(version, self._left.get(uid, version))
                if uid not in self._pods or _version(self._pods[uid]) <= version:
                    self._pods[uid] = pod

    def forget(self) -> None:
        """Remember none of them: a queue for quota has taken them away, and lets others be made later."""
        with self._lock:
            self._pods.clear()
            self._left.clear()

    def pods(self) -> list[Json]:
        """Return all that were seen; those that were deleted come first, in the order of that."""
        with self._lock:
            last = max(self._left.values(), default=0) + 1
            return sorted(self._pods.values(), key=lambda pod: self._left.get(pod["metadata"]["uid"], last))


def _version(pod: Mapping[str, Any]) -> int:
    text = str(pod["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0
