"""Tells another process what the tasks of a run do, through Airflow's listener hooks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
