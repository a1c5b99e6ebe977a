"""The software of an estimator: its environment, with what its framework and the step itself ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.compute import LocalCompute
from airflow_mlpipe.definitions.faults import Fault, shown
from airflow_mlpipe.definitions.frameworks import package_of
from airflow_mlpipe.definitions.imagebuild import ImageBuild, image_remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.compute import AnyCompute
    from airflow_mlpipe.definitions.environment import Environment
    from airflow_mlpipe.definitions.estimator import EstimatorStep
    from airflow_mlpipe.definitions.faults import Path
    from airflow_mlpipe.definitions.frameworks import Framework


def equipped(given: Environment, step: EstimatorStep, framework: Framework | None, target: AnyCompute) -> Environment:
    """Return the environment of an estimator on a compute target.

    An image is taken as it is. Other software gets what the framework and the step ask for. Where nothing names any,
    the Python of the worker is used as it is unless the step asks for a version or for more, and a container gets the
    image of the framework.

    :param given: what the step, its pipeline, its compute target or the defaults say; an empty one where none does.
    """
    environment = _changed(given, variables=_variables(given, framework), name=given.name or step.framework)
    if is_whole_image(given, target):
        return environment
    lines = wanted(given, step, framework)
    asked = step.framework_version is not None or bool(step.requirements)
    if given.requirements or given.requirements_file or (given.build is not None and asked):
        return _changed(environment, requirements=(*given.requirements, *lines))
    if given.build is not None:
        return environment
    if isinstance(target, LocalCompute):
        return _changed(environment, requirements=lines) if asked else environment
    return _in_container(environment, step, framework, lines)


def is_whole_image(environment: Environment, target: AnyCompute) -> bool:
    """Say whether a step runs in an image that is taken as it is: the environment's, else the target's."""
    if environment.image is not None:
        return True
    prepared = environment.build or environment.requirements or environment.requirements_file
    return not isinstance(target, LocalCompute) and not prepared and target.image is not None


def wanted(given: Environment, step: EstimatorStep, framework: Framework | None) -> tuple[str, ...]:
    """Return the requirements that an estimator adds to those of its environment.

    Without a version the framework asks for nothing that the environment names itself.
    """
    own = () if framework is None else framework.required(step.framework_version)
    if step.framework_version is None:
        there = {package_of(line) for line in (*given.requirements, *step.requirements)}
        own = tuple(line for line in own if package_of(line) not in there)
    return (*own, *step.requirements)


def _in_container(
    environment: Environment, step: EstimatorStep, framework: Framework | None, lines: tuple[str, ...]
) -> Environment:
    image = None if framework is None else framework.image_of(step.framework_version)
    if image is not None and not step.requirements:
        return _changed(environment, image=image)
    if image is not None:
        return _changed(environment, requirements=step.requirements, build=ImageBuild(base=image))
    return _changed(environment, requirements=lines, build=None if framework is None else framework.build)


def _variables(given: Environment, framework: Framework | None) -> dict[str, str]:
    own = {} if framework is None else framework.variables
    return {**{name: text for name, text in own.items() if name not in given.secrets}, **given.variables}


def _changed(environment: Environment, **fields: Any) -> Environment:  # noqa: ANN401 -- fields of an environment
    return environment.model_copy(update=fields)


def software_faults(
    given: Environment, step: EstimatorStep, framework: Framework | None, target: AnyCompute, at: Path
) -> Iterator[Fault]:
    """Yield what an estimator asks for that it cannot get on a compute target.

    :param at: the path of the step.
    """
    if is_whole_image(given, target) and not isinstance(target, LocalCompute) and given.compare == "strict":
        for field, value in (("framework_version", step.framework_version), ("requirements", step.requirements)):
            if value:
                message = f"means nothing to the image {given.image or target.image}, which is taken as it is"
                remedy = "Leave it out, or name an environment with build: {base: <image>}"
                yield Fault((*at, field), message, remedy, shown(value) if isinstance(value, str) else "")
    image = None if framework is None else framework.image_of(step.framework_version)
    if image is not None and step.framework_version is not None and (remedy := image_remedy(image)):
        message = f"makes no name of an image for {step.framework}: {image}"
        yield Fault((*at, "framework_version"), message, remedy, shown(step.framework_version))
