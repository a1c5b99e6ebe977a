"""``mlpipe lock``: resolves the requirements of a pipeline's environments anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DataTransferStep
from airflow_mlpipe.resolving.environments import to_lock
from airflow_mlpipe.resolving.locks import LOCK_FILE, lock_environments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlpipe.cli.project import Project
    from airflow_mlpipe.resolving.locks import Locked


def lock(project: Project) -> tuple[Locked, ...]:
    """Lock every environment of a pipeline that has requirements.

    :raises EnvironmentBuildError: if requirements cannot be resolved; then nothing is written.
    """
    pipeline = project.pipeline
    steps = [step for step in pipeline.steps if not isinstance(step, DataTransferStep)]
    wanted = []
    for step in steps:
        environment = project.workspace.environment_of(pipeline, step)
        container = project.workspace.compute_of(pipeline, step).kind != "local"
        if found := to_lock(environment, pipeline.folder, container=container):
            wanted.append(found)
    return lock_environments(pipeline.folder, wanted) if wanted else ()


def to_json(locked: Sequence[Locked]) -> list[dict[str, Any]]:
    """Return what was locked as plain JSON data."""
    return [
        {
            "requirements": list(one.requirements),
            "python": one.python,
            "platform": one.platform,
            "lock": list(one.new),
            "changed": {name: {"old": old, "new": new} for name, (old, new) in one.differences.items()},
        }
        for one in locked
    ]


def lines(project: Project, locked: Sequence[Locked]) -> list[str]:
    """Return what a person wants to know of it."""
    if not locked:
        return [f"{project.pipeline.name} has no requirements to lock"]
    texts = [f"{project.pipeline.folder / LOCK_FILE}"]
    for one in locked:
        texts.append(f"  {', '.join(one.requirements)} for Python {one.python} on {one.platform}: {_changes(one)}")
        if one.old is not None:
            texts += [f"    {name}: {old or 'new'} -> {new or 'gone'}" for name, (old, new) in one.differences.items()]
    return texts


def _changes(one: Locked) -> str:
    if one.old is None:
        return f"{len(one.new)} distribution{'s' * (len(one.new) != 1)}"
    return f"{len(one.differences)} changed" if one.differences else "nothing has changed"
