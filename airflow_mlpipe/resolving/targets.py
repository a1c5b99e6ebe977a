"""The compute target of a step, as plain data for its `StepSpec`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_mlpipe.definitions import DockerCompute, LocalCompute
from airflow_mlpipe.definitions.compute import with_resources
from airflow_mlpipe.definitions.dump import plain
from airflow_mlpipe.definitions.faults import Refused, faults_of
from airflow_mlpipe.exceptions import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.definitions import Pipeline, Step, Workspace

_LEFT_OUT = ("description", "image", "environment")
"""What says nothing of where a step runs: its environment stands beside it, with its image, pinned."""


def target_data(workspace: Workspace, pipeline: Pipeline, step: Step) -> Mapping[str, Any]:
    """Return where a step runs, with the resources that it asks for; an empty mapping stands for a local target.

    The connection of a Docker target is the one with the login for the step's very image.

    :raises DefinitionError: if the target has no such resource.
    """
    target = workspace.compute_of(pipeline, step)
    if isinstance(target, LocalCompute):
        return {}
    try:
        target = with_resources(target, step.resources)
    except (Refused, ValidationError) as error:
        faults = [fault.below("steps", step.name, "resources").problem() for fault in faults_of(error)]
        raise DefinitionError(faults) from None
    if isinstance(target, DockerCompute) and (connection := _connection(workspace, pipeline, step)):
        target = target.model_copy(update={"connection": connection})
    data: dict[str, Any] = plain(target)
    return {name: value for name, value in data.items() if name not in _LEFT_OUT}


def _connection(workspace: Workspace, pipeline: Pipeline, step: Step) -> str | None:
    """Return the connection of the registry that a step's image is pulled from, where its environment says so."""
    environment = workspace.environment_of(pipeline, step)
    if environment.build is None:
        return environment.registry
    return workspace.registry.connection if workspace.registry else None
