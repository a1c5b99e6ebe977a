"""Airflow as a task sees it while it runs, without Airflow: XComs, params and asset events are kept in memory."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset
from airflow.sdk.api.datamodels._generated import AssetEventResponse
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.definitions.param import process_params
from airflow.sdk.execution_time.comms import AssetEventsResult, GetAssetEventByAsset, SetXCom
from airflow.sdk.execution_time.context import ConnectionAccessor, OutletEventAccessors
from structlog.testing import capture_logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOMENT = datetime(2025, 3, 1, 12, tzinfo=timezone.utc)
NAMES_OF_MOMENTS = ("logical_date", "data_interval_start", "data_interval_end")

Where = tuple[str, str, str, int]
"""The DAG, run, task and map index of an XCom."""


@dataclass
class TaskInstance:
    """What a task may ask of its instance."""

    airflow: Airflow
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    try_number: int = 1

    def xcom_pull(self, task_ids: str, key: str = "return_value", default: Any = None, **_: Any) -> Any:
        return self.airflow.xcoms.get((self.dag_id, self.run_id, task_ids, -1), {}).get(key, default)

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, dict[str, str]]:
        known = self.airflow.states
        return {
            run: {task: known[dag_id, run, task] for task in task_ids if (dag_id, run, task) in known}
            for run in run_ids
        }

    def xcom_push(self, key: str, value: Any) -> None:
        self.airflow.xcoms.setdefault((self.dag_id, self.run_id, self.task_id, self.map_index), {})[key] = value


@dataclass(frozen=True)
class Ended:
    """What a task did: the operator as it was executed, what it returned, logged and announced."""

    task: Any
    result: Any
    said: tuple[str, ...]
    announced: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def outcome(self) -> str:
        """The first line that says how it ended, up to the colon."""
        return next(line for line in self.said if line.startswith(("ran:", "reused:", "waited:"))).partition(":")[0]


@dataclass
class Airflow:
    """Runs tasks one at a time, as a worker does; it also is what they reach as their supervisor."""

    xcoms: dict[Where, dict[str, Any]] = field(default_factory=dict)
    events: list[AssetEventResponse] = field(default_factory=list)
    states: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """How tasks ended, by DAG, run and task."""

    def run(self, task: Any, run: str = "r1", **of_the_run: Any) -> Ended:
        """Run a task to its end, and keep what it leaves for others.

        :param of_the_run: ``conf``, ``map_index``, ``try_number``, and moments such as ``logical_date``.
        """
        context = self.context(task, run, **of_the_run)
        with capture_logs() as logged:
            executed = self.rendered(task, context)
            sentinel = {f"{type(executed).__name__}__sentinel": ExecutorSafeguard.sentinel_value}
            result = executed.execute(context, **sentinel)
        context["ti"].xcom_push("return_value", result)
        if executed.multiple_outputs:
            for key, value in result.items():
                context["ti"].xcom_push(key, value)
        self.states[task.dag_id, run, task.task_id] = "success"
        said = tuple(_line(event) for event in logged)
        return Ended(executed, result, said, tuple(self._announce(context)))

    def rendered(self, task: Any, context: dict[str, Any]) -> Any:
        """Return the task with what Airflow renders in it."""
        context["task"] = task.prepare_for_execution()
        context["task"].render_template_fields(context)
        return context["task"]

    def context(
        self,
        task: Any,
        run: str = "r1",
        *,
        conf: Mapping[str, Any] | None = None,
        map_index: int = -1,
        try_number: int = 1,
        **moments: datetime,
    ) -> dict[str, Any]:
        """Return the context of a task; ``moments`` are those that the run has besides ``run_after``."""
        ti = TaskInstance(self, task.dag_id, run, task.task_id, map_index, try_number)
        return {
            "ti": ti,
            "task_instance": ti,
            "task": task,
            "dag": task.dag,
            "run_id": run,
            "dag_run": SimpleNamespace(run_id=run, run_after=MOMENT, conf=conf),
            "params": _params(task, dict(conf or {})),
            "conn": ConnectionAccessor(),
            "outlets": task.outlets,
            "outlet_events": OutletEventAccessors(),
            "ds": "2025-03-01",
            **{name: moments.get(name) for name in NAMES_OF_MOMENTS},
        }

    def send(self, message: Any) -> Any:
        """Answer a task, as its supervisor does."""
        match message:
            case GetAssetEventByAsset():
                found = [event for event in self.events if (event.asset.name, event.asset.uri) == _asset(message)]
                newest_first = found if message.ascending else found[::-1]
                return AssetEventsResult(asset_events=newest_first[: message.limit])
            case SetXCom():
                where = (message.dag_id, message.run_id, message.task_id, -1)
                self.xcoms.setdefault(where, {})[message.key] = message.value
                return None
        error = f"no task was expected to ask for {message!r}"
        raise AssertionError(error)

    def _announce(self, context: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
        """Make the asset events that a task left, which Airflow does when the task has succeeded."""
        ti, events = context["ti"], context["outlet_events"]
        outlets = [outlet for outlet in context["task"].outlets if isinstance(outlet, Asset)]
        told = [(outlet, events[outlet].extra) for outlet in outlets]
        told += [(event.dest_asset_key, event.extra) for each in events.values() for event in each.asset_alias_events]
        for asset, extra in told:
            self.events.append(
                AssetEventResponse(
                    id=len(self.events),
                    timestamp=MOMENT,
                    extra=extra,
                    asset={"name": asset.name, "uri": asset.uri, "group": "asset", "extra": {}},
                    created_dagruns=[],
                    source_dag_id=ti.dag_id,
                    source_task_id=ti.task_id,
                    source_run_id=ti.run_id,
                    source_map_index=ti.map_index,
                )
            )
            yield asset.name, extra


def _params(task: Any, conf: dict[str, Any]) -> dict[str, Any]:
    dag, task = (SimpleNamespace(params=deepcopy(each.params)) for each in (task.dag, task))  # Airflow writes into them
    return process_params(dag, task, conf, suppress_exception=False)


def _asset(message: GetAssetEventByAsset) -> tuple[str | None, str | None]:
    return message.name, message.uri


def _line(event: Mapping[str, Any]) -> str:
    """Return a logged line with its arguments filled in."""
    return (
        str(event["event"]) % tuple(event.get("positional_args", ())) if "positional_args" in event else event["event"]
    )
