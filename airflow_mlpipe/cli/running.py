"""``mlpipe run``: plans without Airflow, ends there when nothing has to run, and else runs the DAG."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import of_run
from airflow_mlpipe.exceptions import AirflowError
from airflow_mlpipe.resolving.decide import History
from airflow_mlpipe.resolving.planner import RunPlan, make_plan, uses_of
from airflow_mlpipe.resolving.tracking import Tracking
from airflow_mlpipe.store import journal, runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.cli.arguments import Moment
    from airflow_mlpipe.cli.follow import Followed
    from airflow_mlpipe.cli.project import Project
    from airflow_mlpipe.cli.report import RunReport
    from airflow_mlpipe.runtime.protocol import Scalar

_SHOWN_LINES = 20


@dataclass(frozen=True)
class Request:
    """One run that is asked for.

    ``parameters`` holds the value of each, ``regenerate`` the steps that must not be reused, ``jobs`` how many steps
    may run side by side.
    """

    moment: Moment
    parameters: Mapping[str, Scalar]
    regenerate: tuple[str, ...] = ()
    jobs: int = 1
    verbose: bool = False


@dataclass(frozen=True)
class Ended:
    """How a run ended; ``log`` is None where Airflow was not needed."""

    report: RunReport
    log: Path | None = None


def plan(project: Project, request: Request) -> RunPlan:
    """Return what a run would do; nothing is written."""
    return make_plan(
        project.site,
        project.pipeline,
        request.moment.run_id,
        request.moment.values(request.parameters),
        regenerate=request.regenerate,
        outside=(),
        dry=True,
    )


def run(project: Project, request: Request) -> Ended:
    """Run what has to run.

    :raises AirflowError: if Airflow fails, other than by a step that does.
    """
    planned = plan(project, request)
    if all(decision.choice in {"reuse", "not_run"} for decision in planned.decisions.values()):
        _keep(project, planned, request)
        Tracking.of(project.site, project.pipeline, planned.run, _warn).planned(planned)
        return Ended(of_run(planned, {}))
    return _run_dag(project, request)


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _keep(project: Project, planned: RunPlan, request: Request) -> None:
    """Keep the plan of a run in which nothing has to run, as the task ``plan`` would."""
    store = project.site.store
    runs.write_plan(store, planned.pipeline, planned.run, planned.to_json())
    history = History.read(project.site, planned.pipeline, planned.decisions, {})
    for decision in planned.decisions.values():
        if decision.fingerprint:
            history.note(decision.spec, decision.fingerprint, planned.run)
    moments = request.moment.values(request.parameters).run
    journal.append(store, planned.pipeline, planned.run, moments, uses_of(planned))


def _run_dag(project: Project, request: Request) -> Ended:
    from airflow_mlpipe.cli.follow import follow  # noqa: PLC0415 -- this and below: only if something runs
    from airflow_mlpipe.cli.launch import launch  # noqa: PLC0415
    from airflow_mlpipe.cli.progress import Progress, screen  # noqa: PLC0415

    run_id = request.moment.run_id
    conf: dict[str, Any] = {**request.parameters, "regenerate_outputs": list(request.regenerate)}
    with screen() as shown:
        progress = Progress(shown, project.site.store, project.pipeline.name, run_id)
        progress.passes()
        launched = launch(project, request.moment, conf, request.jobs)
        try:
            followed = follow(launched, progress, verbose=request.verbose)
        finally:
            launched.stop()
    return Ended(_report(project, run_id, followed, launched.log), launched.log)


def _report(project: Project, run_id: str, followed: Followed, log: Path) -> RunReport:
    store, pipeline = project.site.store, project.pipeline.name
    data = runs.read_plan(store, pipeline, run_id)
    if data is None or followed.state is None:
        raise _broken(followed, log)
    return of_run(RunPlan.from_json(data), runs.read_notes(store, pipeline, run_id), followed.errors)


def _broken(followed: Followed, log: Path) -> AirflowError:
    """Return the error for a run that has no plan, or did not come to its end."""
    from airflow_mlpipe.cli.follow import last_lines  # noqa: PLC0415 -- only when something broke

    if error := followed.errors.get("plan"):
        return AirflowError(f"the run could not be planned: {error}")
    tail = "\n".join(last_lines(log, _SHOWN_LINES))
    return AirflowError(f"Airflow ended before the run did; the end of {log}:\n{tail}")
