"""The kinds of steps: one node of a pipeline each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PrivateAttr, StrictBool, StrictInt, TypeAdapter

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.data import (
    DestinationField,
    InputBinding,
    PipelineData,
    Place,
    StepOutput,
    binding,
)
from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.expressions import VALUES, Ref, misplaced, refs
from airflow_mlpipe.definitions.faults import Fault, Path, did_you_mean, refuse
from airflow_mlpipe.definitions.parameter import PipelineParameter
from airflow_mlpipe.definitions.values import (
    Argument,
    Count,
    DottedName,
    Duration,
    InsidePath,
    PortName,
    StepName,
    Value,
)

DATA = "data"
"""The name of the only input and output of a data transfer."""


_ARGUMENTS = TypeAdapter(tuple[Argument, ...])


def _environment(value: object) -> object:
    if value is None or isinstance(value, str | Environment):
        return value
    if isinstance(value, Mapping):
        return build(Environment, value)
    message = "must be the name of an environment, or a mapping of its fields"
    raise refuse(message, "Write environment: <name>", value)


def _command_line(value: object) -> object:
    """Check the items here, since pydantic would complain about a text as well."""
    if isinstance(value, str):
        return value
    return _ARGUMENTS.validate_python(value)


def _names(value: object) -> object:
    """Take one name, or a step, for a list of it."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(item.name if isinstance(item, StepBase) else item for item in items)


def _text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


EnvironmentField = Annotated[
    str | Environment | None, BeforeValidator(_environment, json_schema_input_type=str | Environment | None)
]
Names = Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=str | list[str])]
Inputs = Annotated[dict[PortName, InputBinding], BeforeValidator(ports.inputs)]
Outputs = Annotated[dict[PortName, PipelineData], BeforeValidator(ports.outputs)]
Directory = Annotated[str, BeforeValidator(_text)]


class StepBase(Definition):
    """What all kinds of steps have in common."""

    named_by: ClassVar[str | None] = "name"

    name: StepName
    """The name of the step; in YAML the key gives it."""
    description: str = ""
    display_name: str | None = None
    """Shown in place of the name."""
    compute: str | None = None
    """The name of a compute target; the pipeline's where it is not given."""
    environment: EnvironmentField = None
    """The name of an environment of the workspace, or an environment; the pipeline's where it is not given."""
    run_after: Names = ()
    """Steps that must be done before, where no data says so."""
    allow_reuse: StrictBool = True
    """Whether earlier results may be taken where nothing has changed."""
    retries: Count | None = None
    """How often the step is tried again after it failed."""
    retry_delay: Duration | None = None
    """The time between two tries."""
    timeout: Duration | None = None
    """The time after which a try is ended."""
    pool: str | None = None
    """The Airflow pool."""
    priority: StrictInt | None = None
    """Airflow's priority weight."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """What the compute target shall provide; a local one takes none."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Free labels; they change nothing."""
    on_success: DottedName | None = None
    """A function to call, `module.function`."""
    on_failure: DottedName | None = None
    """A function to call, `module.function`."""
    on_retry: DottedName | None = None
    """A function to call, `module.function`."""
    version: str | None = None
    """A free label; it changes nothing."""

    _parameters: tuple[PipelineParameter, ...] = PrivateAttr(())

    def __init__(self, /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        super().__init__(**data)
        self._parameters = ports.parameters_in(data)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def given_parameters(self) -> tuple[PipelineParameter, ...]:
        """The parameter objects given in Python; the pipeline takes them in."""
        return self._parameters

    @property
    def output(self) -> dict[str, StepOutput]:
        """Each output, as the input of another step."""
        return {name: StepOutput(step=self.name, output=name) for name in self._outputs()}

    def _outputs(self) -> Mapping[str, PipelineData]:
        return {}

    def _environment_texts(self) -> Iterator[tuple[Path, str]]:
        if isinstance(self.environment, Environment):
            yield from ((("environment", "variables", key), text) for key, text in self.environment.variables.items())


class _Ported(StepBase):
    """A step with declared inputs, outputs and parameters."""

    inputs: Inputs = Field(default_factory=dict)
    """What the step reads, by name."""
    outputs: Outputs = Field(default_factory=dict)
    """What the step leaves, by name."""
    parameters: dict[PortName, Value] = Field(default_factory=dict)
    """Values the script sees. Texts may hold `${{ parameters.x }}` and `${{ run.x }}`."""
    checkpoint: StrictBool = False
    """Whether what the script leaves in the folder `MLPIPE_CHECKPOINT` is there again at its next try; changes nothing else."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow objects in arguments, command and parameters."""
        return ports.with_texts(data) if isinstance(data, Mapping) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*self._name_faults(), *self._reference_faults()]

    def _outputs(self) -> Mapping[str, PipelineData]:
        return self.outputs

    def _name_faults(self) -> Iterator[Fault]:
        seen: dict[tuple[str, str], str] = {}
        for field in ("inputs", "outputs", "parameters"):
            space = "parameters" if field == "parameters" else "data"
            for name in getattr(self, field):
                earlier = seen.setdefault((space, name.casefold()), f"{field}.{name}")
                if earlier != f"{field}.{name}":
                    message = f"is the same name as {earlier}; upper and lower case are not told apart"
                    yield Fault((field, name), message, "Choose another name", repr(name), at_key=True)

    def _reference_faults(self) -> Iterator[Fault]:
        for path, text in self._texts():
            if "${{" not in text:
                continue
            wrong = misplaced(text, path, _ALLOWED[path[0]])
            yield from wrong or self._undeclared(path, text)

    def _undeclared(self, path: Path, text: str) -> Iterator[Fault]:
        for ref in refs(text):
            if ref.kind in {"inputs", "outputs"} and ref.name not in (known := getattr(self, ref.kind)):
                message = f"names an {ref.kind[:-1]} that the step does not declare"
                remedy = did_you_mean(ref.name, known, f"{ref.kind}.")
                yield Fault(path, message, remedy, str(ref), about=(ref.kind, ref.name))

    def references(self) -> tuple[tuple[Path, Ref], ...]:
        """Return every reference of the step but those that bind its inputs, each with the path where it stands."""
        return tuple((path, ref) for path, text in self._texts() for ref in refs(text))

    def _texts(self) -> Iterator[tuple[Path, str]]:
        yield from self._command_texts()
        for name, value in self.parameters.items():
            if isinstance(value, str):
                yield ("parameters", name), value
        for name, bound in self.inputs.items():
            if not isinstance(bound, StepOutput):
                yield from ((("inputs", name, field), text) for field, text in bound.texts())
        for name, data in self.outputs.items():
            if data.destination is not None:
                yield from ((("outputs", name, "destination", field), text) for field, text in data.destination.texts())
        yield from self._environment_texts()

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        yield from ()


_ANY = ("parameters", "inputs", "outputs", "run")
_ALLOWED: dict[str | int, tuple[str, ...]] = {
    "arguments": _ANY,
    "command": _ANY,
    "parameters": VALUES,
    "inputs": VALUES,
    "outputs": VALUES,
    "environment": VALUES,
}


class PythonScriptStep(_Ported):
    """Runs a Python script."""

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
        data = super().normalised(data)
        if isinstance(data, dict) and isinstance(data.get("script_name"), str | os.PathLike):
            data["script_name"] = os.fspath(data["script_name"])
            data.setdefault("name", PurePosixPath(data["script_name"]).stem)
        return data

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        yield from ((("arguments", index), text) for index, text in enumerate(self.arguments))


class CommandStep(_Ported):
    """Runs a command line."""

    kind: Literal["command"] = "command"
    command: Annotated[str | tuple[Argument, ...], BeforeValidator(_command_line)]
    """A text for `sh -c`, or the list of a program and its arguments. May hold expressions."""
    source_directory: Directory | None = None
    """The folder that becomes the working directory, relative to the folder of the definition."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        faults = list(super().wrong())
        if not self.command or (isinstance(self.command, str) and not self.command.strip()):
            faults.append(Fault(("command",), "must not be empty", "Give a command line"))
        return faults

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        if isinstance(self.command, str):
            yield ("command",), self.command
        else:
            yield from ((("command", index), text) for index, text in enumerate(self.command))


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


Step: TypeAlias = Annotated[PythonScriptStep | CommandStep | DataTransferStep, Field(discriminator="kind")]
"""A step as it runs."""
