"""Airflow's context in the project's words: which run, which step, which values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.store.log import Owner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.sdk import Context

RUN_FIELDS = ("logical_date", "data_interval_start", "data_interval_end")


@dataclass(frozen=True)
class RunContext:
    """The run and the task instance an operator executes for."""

    pipeline: str
    run: str
    step: str
    task_instance: str
    try_number: int
    moments: Mapping[str, str]

    @classmethod
    def of(cls, context: Context, step: str | None = None) -> RunContext:
        """Read Airflow's context; a mapped task instance is a step of its own."""
        ti: Any = context["ti"]
        suffix = "" if ti.map_index in (None, -1) else f"[{ti.map_index}]"
        return cls(
            pipeline=ti.dag_id,
            run=ti.run_id,
            step=(step or ti.task_id) + suffix,
            task_instance=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}",
            try_number=ti.try_number,
            moments=run_moments(context),
        )

    def owner(self) -> Owner:
        """Return who claims, on behalf of this task instance."""
        return Owner.here(self.pipeline, self.run, self.step, self.task_instance, self.try_number)

    def values(self, parameters: Mapping[str, Any]) -> Values:
        """Return the values that expressions may name."""
        return Values(parameters, self.moments)


def run_moments(context: Context) -> dict[str, str]:
    """Return the ``run.*`` values of a run, as ISO 8601 text in UTC; a run without a logical date has fewer."""
    moments = {name: context.get(name) for name in RUN_FIELDS}
    moments["run_after"] = context["dag_run"].run_after
    return {name: utc_text(moment) for name, moment in moments.items() if moment is not None}


def utc_text(moment: datetime) -> str:
    """Return a moment as ISO 8601 text in UTC, so that one moment has one text."""
    return moment.astimezone(timezone.utc).isoformat()
