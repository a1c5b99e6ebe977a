"""The kinds of steps: one node of a pipeline each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from airflow_mlpipe.definitions.data import DestinationField, InputBinding, PipelineData, Place, StepOutput, binding
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.expressions import Ref, refs
from airflow_mlpipe.definitions.mpi import MpiStep
from airflow_mlpipe.definitions.stepbase import (
    CommandLine,
    Directory,
    PortedStep,
    StepBase,
    command_texts,
    empty_command,
    named_after_script,
)
from airflow_mlpipe.definitions.values import Argument, InsidePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_mlpipe.definitions.faults import Fault, Path

DATA = "data"
"""The name of the only input and output of a data transfer."""


class PythonScriptStep(PortedStep):
    """Runs a Python script."""

    script_field: ClassVar[str | None] = "script_name"

    kind: Literal["python_script"] = "python_script"
    script_name: InsidePath
    """The script, relative to `source_directory`."""
    arguments: tuple[Argument, ...] = ()
    """The arguments of the script. May hold expressions."""
    source_directory: Directory = "."
    """The folder that becomes the working directory, relative to the folder of the definition."""
    code: Literal["directory", "imports"] = "directory"
    """What counts as the step's code: every file of the folder, or only the modules that the script imports."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Name a step without a name after its script."""
        return named_after_script(super().normalised(data), "script_name")

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        yield from ((("arguments", index), text) for index, text in enumerate(self.arguments))


class CommandStep(PortedStep):
    """Runs a command line."""

    kind: Literal["command"] = "command"
    command: CommandLine
    """A text for `sh -c`, or the list of a program and its arguments. May hold expressions."""
    source_directory: Directory | None = None
    """The folder that becomes the working directory, relative to the folder of the definition."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*super().wrong(), *empty_command(self.command)]

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        return command_texts(self.command)


def _source(value: object) -> InputBinding:
    return binding(value, DATA)


class DataTransferStep(StepBase):
    """Copies a file or folder from one place to another. Its only output is `data`: what lies at the destination."""

    kind: Literal["data_transfer"] = "data_transfer"
    source: Annotated[InputBinding, BeforeValidator(_source)]
    """What to copy: existing data, or the output of a step."""
    destination: DestinationField
    """Where to copy it."""

    @property
    def inputs(self) -> dict[str, InputBinding]:
        """The source, as the input `data`."""
        return {DATA: self.source}

    @property
    def outputs(self) -> dict[str, PipelineData]:
        """The destination, as the output `data`."""
        return {DATA: PipelineData(DATA, destination=self.destination)}

    @property
    def parameters(self) -> dict[str, str | int | float | bool]:
        """A data transfer has none of its own."""
        return {}

    def references(self) -> tuple[tuple[Path, Ref], ...]:
        """Return every reference of the step but the one that binds its source, each with the path where it stands."""
        places: list[tuple[str, Place]] = [("destination", self.destination)]
        if not isinstance(self.source, StepOutput):
            places.insert(0, ("source", self.source))
        texts = [((field, name), text) for field, place in places for name, text in place.texts()]
        return tuple((path, ref) for path, text in [*texts, *self._environment_texts()] for ref in refs(text))

    def _outputs(self) -> Mapping[str, PipelineData]:
        return self.outputs


Step: TypeAlias = Annotated[
    PythonScriptStep | CommandStep | DataTransferStep | EstimatorStep | MpiStep, Field(discriminator="kind")
]
"""A step as it runs."""
