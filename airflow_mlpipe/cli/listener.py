"""Tells another process what the tasks of a run do, and lets a run be stopped, through Airflow's listener hooks."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import FrameType


class Listener:
    """Appends one line of JSON to a file for each change of a task: ``{"task", "state", "error"}``."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def write(self, event: Mapping[str, Any]) -> None:
        """Append one event, whole, also where several processes write."""
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(event).encode() + b"\n")
        finally:
            os.close(descriptor)

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def on_task_instance_running(self, task_instance: Any) -> None:  # noqa: ANN401 -- Airflow's
        """Tell that a task begins."""
        self._tell(task_instance, "running")

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def on_task_instance_success(self, task_instance: Any) -> None:  # noqa: ANN401
        """Tell that a task has succeeded."""
        self._tell(task_instance, "success")

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def on_task_instance_failed(self, task_instance: Any, error: str | BaseException | None) -> None:  # noqa: ANN401
        """Tell that a task, or a try of it, has failed."""
        self._tell(task_instance, "failed", str(error) if error else "it failed, and the log says why")

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def on_task_instance_skipped(self, task_instance: Any) -> None:  # noqa: ANN401
        """Tell that a task has skipped itself."""
        self._tell(task_instance, "skipped")

    def _tell(self, task_instance: Any, state: str, error: str | None = None) -> None:  # noqa: ANN401
        self.write({"task": task_instance.task_id, "state": state, "error": error})


class Stopper:
    """Stops a run by SIGTERM where its tasks run in this very process.

    Airflow has each task take SIGTERM for itself: the task ends, and the next one would begin.
    """

    def __init__(self, stop: Callable[[int, FrameType | None], Any]) -> None:
        self._stop = stop
        self._asked = False

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def on_task_instance_running(self) -> None:
        """Hear of the signal beside the task that begins."""
        end_task = signal.getsignal(signal.SIGTERM)

        def asked(number: int, frame: FrameType | None) -> None:
            self._asked = True
            if callable(end_task):
                end_task(number, frame)

        signal.signal(signal.SIGTERM, asked)

    @hookimpl  # type: ignore[untyped-decorator] # pluggy's, through Airflow
    def before_stopping(self) -> None:
        """Stop if that was asked for while the task ran, which has cleaned up by now."""
        signal.signal(signal.SIGTERM, self._stop)
        if self._asked:
            self._stop(signal.SIGTERM, None)
