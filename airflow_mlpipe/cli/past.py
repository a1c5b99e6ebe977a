"""The runs that a store remembers."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airflow_mlpipe.cli.report import of_run
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import PlanError
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.store import runs

if TYPE_CHECKING:
    from airflow_mlpipe.cli.report import RunReport
    from airflow_mlpipe.store.store import Store

_NEVER = datetime.min.replace(tzinfo=timezone.utc)


def last_run(store: Store, pipeline: str) -> RunReport | None:
    """Return the last run of a pipeline that was planned, or None if there is none."""
    for run in sorted(runs.runs(store, pipeline), key=_began, reverse=True):
        if report := _read(store, pipeline, run):
            return report
    return None


def named_run(store: Store, pipeline: str, run: str) -> RunReport:
    """Return one run of a pipeline.

    :raises PlanError: if the store knows no such run.
    """
    if report := _read(store, pipeline, run):
        return report
    known = sorted(runs.runs(store, pipeline), key=_began, reverse=True)
    remedy = did_you_mean(run, known[:5]) if known else f"{pipeline} has not run yet"
    message = f"{store.url} knows no run {run!r} of {pipeline}. {remedy}"
    raise PlanError(message)


def _read(store: Store, pipeline: str, run: str) -> RunReport | None:
    data = runs.read_plan(store, pipeline, run)
    return of_run(RunPlan.from_json(data), runs.read_notes(store, pipeline, run)) if data else None


def _began(run: str) -> datetime:
    """Return when a run began, as its id says; an id that does not say comes first."""
    try:
        moment = datetime.fromisoformat(run.partition("__")[2].partition("_")[0])
    except ValueError:
        return _NEVER
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
