"""A running Airflow as tests see it: write a DAG, trigger it, look at everything it left."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from airflow_mlpipe.up import LocalAirflow

FINISHED = {"success", "failed"}

FAST = {
    "core.dags_are_paused_at_creation": "False",
    "core.parallelism": "8",
    "dag_processor.min_file_process_interval": "3",
    "dag_processor.file_parsing_sort_mode": "modified_time",
    "dag_processor.stale_dag_threshold": "10",
    "dag_processor.refresh_interval": "2",
}


class DagImportError(Exception):
    """A DAG file that Airflow could not import, with its traceback."""


class Harness:
    """What tests do with an Airflow; ``airflow`` below it has the whole API."""

    def __init__(self, airflow: LocalAirflow) -> None:
        self.airflow = airflow

    @property
    def dags_folder(self) -> Path:
        return self.airflow.dags_folder

    def write(self, path: str, text: str) -> Path:
        """Write a file of the DAG folder, a definition or a script, and return where."""
        target = self.dags_folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_text(text)
        temporary.replace(target)
        return target

    def write_dag(self, name: str, text: str, timeout: float = 40) -> list[str]:
        """Write ``<name>.py``, wait until Airflow has parsed just this text, and return the ids of its DAGs.

        :raises DagImportError: if Airflow cannot import it.
        """
        assert "dag" in text.lower(), "Airflow ignores a file that does not mention dag and airflow"
        assert "airflow" in text.lower(), "Airflow ignores a file that does not mention dag and airflow"
        begin = datetime.now(timezone.utc)
        self.write(f"{name}.py", text)
        return self._parsed(f"{name}.py", begin, text, timeout)

    def reparse(self, name: str, timeout: float = 40) -> list[str]:
        """Have ``<name>.py`` parsed again, because a file it reads has changed; see `write_dag`."""
        path = self.dags_folder / f"{name}.py"
        begin = datetime.now(timezone.utc)
        os.utime(path)
        time.sleep(0.01)
        return self._parsed(path.name, begin, path.read_text(), timeout)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Trigger a run and return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.airflow.post(f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def wait(self, dag_id: str, run_id: str, timeout: float = 90) -> str:
        """Wait until a run has finished and return its state."""
        path = f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}"
        self.until(
            lambda: self.airflow.get(path)["state"] in FINISHED,
            timeout,
            lambda: f"{dag_id} {run_id} has not finished: {self.task_states(dag_id, run_id)}",
        )
        state = str(self.airflow.get(path)["state"])
        if state == "failed":
            print(self.failures(dag_id, run_id))  # pytest shows it where a test fails for it
        return state

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 90) -> tuple[str, str]:
        """Trigger a run, wait for it, and return its id and its state."""
        run_id = self.trigger(dag_id, conf)
        return run_id, self.wait(dag_id, run_id, timeout)

    def seconds(self, dag_id: str, run_id: str) -> float:
        """Return how long a finished run took by Airflow's own clock."""
        run = self.airflow.get(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}")
        return (datetime.fromisoformat(run["end_date"]) - datetime.fromisoformat(run["start_date"])).total_seconds()

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """Return the state of every task instance; mapped ones are named ``task[0]``."""
        return {_name(task): task["state"] for task in self.tasks(dag_id, run_id)}

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return everything the API says about the task instances of a run."""
        return list(self.airflow.pages(f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances", "task_instances"))

    def failures(self, dag_id: str, run_id: str) -> str:
        """Return the log of the last try of every task of a run that failed."""
        return "\n".join(
            f"{dag_id} {run_id} {_name(task)}, try {task['try_number']} failed:\n{self._task_log(task)}"
            for task in self.tasks(dag_id, run_id)
            if task["state"] == "failed"
        )

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """Return the value a task left under a key."""
        entry = self.airflow.get(f"{_task(dag_id, run_id, task_id)}/xcomEntries/{_quoted(key)}?stringify=false")
        return entry["value"]

    def xcoms(self, dag_id: str, run_id: str) -> dict[str, set[str]]:
        """Return the keys that each task of a run left."""
        found: dict[str, set[str]] = {}
        path = f"{_task(dag_id, run_id, '~')}/xcomEntries"
        for entry in self.airflow.pages(path, "xcom_entries"):
            found.setdefault(entry["task_id"], set()).add(entry["key"])
        return found

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """Return the log of one try of a task, a line an event."""
        return self._log(f"{_task(dag_id, run_id, task_id)}/logs/{try_number}?full_content=true")

    def clear(self, dag_id: str, run_id: str, task_ids: Iterable[str], *, downstream: bool = False) -> None:
        """Clear tasks of a run, so that they run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "only_failed": False,
            "include_downstream": downstream,
            "reset_dag_runs": True,
        }
        self.airflow.post(f"/dags/{dag_id}/clearTaskInstances", body)

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task as failed or successful by hand, which ends it if it runs."""
        self.airflow.patch(_task(dag_id, run_id, task_id), {"new_state": state})

    def rendered(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the rendered template fields of a task."""
        fields: dict[str, Any] = self.airflow.get(_task(dag_id, run_id, task_id))["rendered_fields"]
        return fields

    def import_errors(self) -> dict[str, str]:
        """Return the traceback of every file of the DAG folder that cannot be imported."""
        errors = self.airflow.pages("/importErrors", "import_errors")
        return {error["filename"]: error["stack_trace"] for error in errors}

    def asset_events(self, dag_id: str | None = None) -> list[dict[str, Any]]:
        """Return the asset events, of one DAG or all."""
        query = f"?source_dag_id={dag_id}" if dag_id else ""
        return list(self.airflow.pages(f"/assets/events{query}", "asset_events"))

    def dag_versions(self, dag_id: str) -> list[int]:
        """Return the version numbers of a DAG."""
        versions = self.airflow.pages(f"/dags/{dag_id}/dagVersions", "dag_versions")
        return sorted(version["version_number"] for version in versions)

    def until(self, true: Callable[[], object], timeout: float, otherwise: Callable[[], str] | str) -> None:
        """Wait until something is true, while Airflow runs.

        :raises TimeoutError: saying ``otherwise``.
        """
        end = time.monotonic() + timeout
        while not true():
            self.airflow.check()
            if time.monotonic() > end:
                raise TimeoutError(otherwise if isinstance(otherwise, str) else otherwise())
            time.sleep(0.1)

    def _task_log(self, task: Mapping[str, Any]) -> str:
        path = f"{_task(task['dag_id'], task['dag_run_id'], task['task_id'])}/logs/{max(task['try_number'], 1)}"
        return self._log(f"{path}?full_content=true&map_index={task['map_index']}")

    def _log(self, path: str) -> str:
        content = self.airflow.get(path)["content"]
        return content if isinstance(content, str) else "\n".join(_line(event) for event in content)

    def _parsed(self, file: str, begin: datetime, text: str, timeout: float) -> list[str]:
        found: list[str] = []

        def parsed() -> bool:
            for error in self.airflow.pages("/importErrors", "import_errors"):
                if error["filename"] == file and _moment(error["timestamp"]) >= begin:
                    raise DagImportError(error["stack_trace"])
            listed = [dag for dag in self.airflow.pages("/dags", "dags") if dag["relative_fileloc"] == file]
            found[:] = [
                dag["dag_id"]
                for dag in listed
                if _moment(dag["last_parsed_time"]) >= begin and self._source(dag["dag_id"]) == text
            ]
            return bool(found)

        self.until(parsed, timeout, f"{file} was not parsed within {timeout:.0f} seconds")
        return found

    def _source(self, dag_id: str) -> str:
        return str(self.airflow.get(f"/dagSources/{dag_id}")["content"])


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}"


def _quoted(text: str) -> str:
    return quote(text, safe="~")


def _name(task: Mapping[str, Any]) -> str:
    return f"{task['task_id']}[{task['map_index']}]" if task["map_index"] >= 0 else str(task["task_id"])


def _line(event: Mapping[str, Any] | str) -> str:
    if isinstance(event, str):
        return event
    error = "".join(f"\n{detail['exc_type']}: {detail['exc_value']}" for detail in event.get("error_detail") or ())
    return str(event["event"]) + error


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
