"""`EstimatorStep`: trains a model with a framework, in one process or in many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.data import PipelineData
from airflow_mlpipe.definitions.distribution import Distribution
from airflow_mlpipe.definitions.environment import requirement_faults
from airflow_mlpipe.definitions.faults import Fault, Path, refuse, shown
from airflow_mlpipe.definitions.stepbase import Directory, Outputs, PortedStep, named_after_script
from airflow_mlpipe.definitions.values import Argument, InsidePath, VersionField

MODEL = "model"
"""The output of an estimator that names none."""


def _distribution(value: object) -> object:
    if value is None or isinstance(value, Distribution):
        return value
    if isinstance(value, Mapping):
        return build(Distribution, value)
    message = "must be a mapping of fields to values"
    raise refuse(message, "Write distribution: {processes_per_node: 2}", value)


def _requirements(value: object) -> object:
    return tuple(value.split("\n")) if isinstance(value, str) else value


def _model() -> dict[str, PipelineData]:
    return {MODEL: PipelineData(MODEL)}


class EstimatorStep(PortedStep):
    """Trains a model: a Python script with the framework it needs."""

    script_field: ClassVar[str | None] = "entry_script"

    kind: Literal["estimator"] = "estimator"
    entry_script: InsidePath
    """The script, relative to `source_directory`."""
    arguments: tuple[Argument, ...] = ()
    """The arguments of the script. May hold expressions."""
    source_directory: Directory = "."
    """The folder that becomes the working directory, relative to the folder of the definition."""
    code: Literal["directory", "imports"] = "directory"
    """What counts as the step's code: every file of the folder, or only the modules that the script imports."""
    framework: str | None = None
    """The name of a framework: one that is always there, or one of the workspace's `frameworks`."""
    framework_version: VersionField = None
    """The version of the framework, such as `1.7.2`; what is installed, or the newest, where it is not given."""
    requirements: Annotated[
        tuple[str, ...], BeforeValidator(_requirements, json_schema_input_type=str | list[str])
    ] = ()
    """What else to install, as in a requirements file."""
    distribution: Annotated[
        Distribution | None, BeforeValidator(_distribution, json_schema_input_type=Distribution | None)
    ] = None
    """How many processes run the script, and what starts them; one process where it is not given."""
    outputs: Outputs = Field(default_factory=_model)
    """What the step leaves, by name; `model` where it is not given."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Name a step without a name after its script."""
        return named_after_script(super().normalised(data), "entry_script")

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        faults = [*super().wrong(), *requirement_faults(self.requirements)]
        if self.framework_version is not None and self.framework is None:
            remedy = "Name the framework, framework: <name>, or give requirements"
            faults.append(
                Fault(("framework_version",), "is that of no framework", remedy, shown(self.framework_version))
            )
        return faults

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        yield from ((("arguments", index), text) for index, text in enumerate(self.arguments))
        if self.distribution is not None:
            yield from ((("distribution", *path), text) for path, text in self.distribution.texts())
