"""``mlpipe build``: makes the images of a pipeline's environments that say how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DataTransferStep, LocalCompute
from airflow_mlpipe.resolving.building import Built, build_image
from airflow_mlpipe.resolving.environments import image_lock
from airflow_mlpipe.resolving.images import Images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_mlpipe.cli.project import Project
    from airflow_mlpipe.definitions import Environment
    from airflow_mlpipe.resolving.images import ContainerTarget


def build(project: Project, say: Callable[[str], None]) -> tuple[Built, ...]:
    """Build the image of each environment that steps in containers have, unless it is there already.

    :param say: takes each line that the builds print.
    :raises EnvironmentBuildError: if one cannot be built; those before it stay.
    """
    images = Images(project.site.login_of, project.workspace.registry)
    made: dict[tuple[str, str], Built] = {}
    for environment, target in dict.fromkeys(_wanted(project)):
        text = image_lock(environment, project.pipeline.folder)
        built = build_image(images, environment, target, None if text is None else text.encode(), say)
        made.setdefault((built.image, built.fact), built)
    return tuple(made.values())


def _wanted(project: Project) -> Iterator[tuple[Environment, ContainerTarget]]:
    workspace, pipeline = project.workspace, project.pipeline
    for step in pipeline.steps:
        if isinstance(step, DataTransferStep):
            continue
        environment, target = workspace.environment_of(pipeline, step), workspace.compute_of(pipeline, step)
        if environment.build is not None and not isinstance(target, LocalCompute):
            yield environment, target


def to_json(built: Sequence[Built]) -> list[dict[str, Any]]:
    """Return what was built as plain JSON data."""
    return [vars(one) for one in built]


def lines(project: Project, built: Sequence[Built]) -> list[str]:
    """Return what a person wants to know of it."""
    if not built:
        return [f"{project.pipeline.name} has no image to build: no step in a container has an environment with build"]
    return [f"{one.environment}: {one.image} {_state(one)}" for one in built]


def _state(one: Built) -> str:
    if not one.fresh:
        return "is there already"
    return "was built and pushed" if one.pushed else "was built"
