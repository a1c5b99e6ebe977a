"""Hands on what a command in a pod prints, while it runs."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes import refusals
from airflow_mlpipe.launchers.kubernetes.pod import BASE
from airflow_mlpipe.launchers.kubernetes.state import is_over

if TYPE_CHECKING:
    from airflow_mlpipe.launchers.kubernetes.cluster import Cluster, Json
    from airflow_mlpipe.launchers.kubernetes.printed import Taking

_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?\S* ?")
_PAUSE = 0.5


class Follower:
    """Follows the log of one pod; each line is handed on once.

    :param since: when the log was read last by somebody else, in seconds since 1970.
    """

    def __init__(self, cluster: Cluster, name: str, output: Taking, since: float | None = None) -> None:
        self._cluster = cluster
        self._name = name
        self._output = output
        self._since = since
        self._last = (b"", b"")

    def to_the_end(self) -> Json | None:
        """Hand on all lines until the command has ended; return the pod as it is then, None if it is gone."""
        while True:
            before = self._cluster.read(self._name)
            over = before is None or is_over(before, BASE)
            if before is not None:
                self._read(follow=not over)
            if over:
                return before
            time.sleep(_PAUSE)

    def _read(self, *, follow: bool) -> None:
        """Read on from where the last connection ended; whether that was the end, the pod's state tells."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- heavy, needed only to run

        shown = self._last
        with suppress(StepError, HTTPError, refusals.NotThereError):
            for line in self._cluster.lines(self._name, self._age(), follow=follow):
                moment = _TIME.match(line)
                if moment is None:  # of the kubelet, about the log
                    continue
                stamp = (moment[1], (moment[2] or b"").ljust(9, b"0"))
                if stamp > shown and not self._is_old(moment[1]):
                    self._last = stamp
                    self._output.take(line[len(moment[0]) :])

    def _age(self) -> float | None:
        began = self._since
        if self._last[0]:
            began = _seconds(self._last[0])
        return None if began is None else time.time() - began + 1

    def _is_old(self, second: bytes) -> bool:
        """Say whether somebody else has shown a line: the triggerer shows those of the seconds before it looked."""
        return self._since is not None and _seconds(second) < int(self._since)


def _seconds(text: bytes) -> float:

    return datetime.fromisoformat(text.decode()).replace(tzinfo=timezone.utc).timestamp()
