"""What all kinds of steps have in common: `StepBase`, and `PortedStep` for those that run a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, TypeAdapter

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.conditions import Condition, RunIf, parse_condition
from airflow_mlpipe.definitions.data import InputBinding, PipelineData, StepOutput
from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.expressions import VALUES, Ref, misplaced, refs
from airflow_mlpipe.definitions.faults import Fault, Path, did_you_mean, refuse
from airflow_mlpipe.definitions.parallel import ParallelField, parallel_faults
from airflow_mlpipe.definitions.parameter import PipelineParameter, TakesParameters
from airflow_mlpipe.definitions.sweep import SweepField, sweep_faults
from airflow_mlpipe.definitions.values import (
    Argument,
    Count,
    DottedName,
    Duration,
    PortName,
    StepName,
    Value,
)

_ARGUMENTS = TypeAdapter(tuple[Argument, ...])


def _environment(value: object) -> object:
    if value is None or isinstance(value, str | Environment):
        return value
    if isinstance(value, Mapping):
        return build(Environment, value)
    message = "must be the name of an environment, or a mapping of its fields"
    raise refuse(message, "Write environment: <name>", value)


def command_line(value: object) -> object:
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
CommandLine = Annotated[str | tuple[Argument, ...], BeforeValidator(command_line)]


class StepBase(TakesParameters):
    """What all kinds of steps have in common."""

    named_by: ClassVar[str | None] = "name"
    script_field: ClassVar[str | None] = None
    """The field that names the script of a kind that runs one."""

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
    run_if: RunIf = None
    """The condition on which the step runs, `${{ steps.evaluate.metrics.auc > 0.9 }}`; it comes after the steps named."""
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

    @property
    def script(self) -> str | None:
        """The Python script that the step runs, relative to its source directory; None if it runs none."""
        return None if self.script_field is None else getattr(self, self.script_field)

    @classmethod
    def parameters_in(cls, data: Mapping[str, Any]) -> tuple[PipelineParameter, ...]:
        """Return the parameter objects among what a user gave, in whatever field they may stand."""
        return ports.parameters_in(data)

    @property
    def output(self) -> dict[str, StepOutput]:
        """Each output, as the input of another step."""
        return {name: StepOutput(step=self.name, output=name) for name in self._outputs()}

    @property
    def condition(self) -> Condition | None:
        """What `run_if` says."""
        return None if self.run_if is None else parse_condition(self.run_if)

    def _outputs(self) -> Mapping[str, PipelineData]:
        return {}

    def _environment_texts(self) -> Iterator[tuple[Path, str]]:
        if isinstance(self.environment, Environment):
            yield from ((("environment", "variables", key), text) for key, text in self.environment.variables.items())


class PortedStep(StepBase):
    """A step with declared inputs, outputs and parameters."""

    inputs: Inputs = Field(default_factory=dict)
    """What the step reads, by name."""
    outputs: Outputs = Field(default_factory=dict)
    """What the step leaves, by name."""
    parameters: dict[PortName, Value] = Field(default_factory=dict)
    """Values the script sees. Texts may hold `${{ parameters.x }}` and `${{ run.x }}`."""
    checkpoint: StrictBool = False
    """Whether what the script leaves in the folder `MLPIPE_CHECKPOINT` is there again at its next try; changes nothing else."""
    sweep: SweepField = None
    """Sets of parameters to try; the step is the best of these trials."""
    parallel: ParallelField = None
    """How the files of an input are dealt out to mini-batches; the step leaves what all of them leave."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow objects in arguments, command and parameters."""
        return ports.with_texts(data) if isinstance(data, Mapping) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*self._name_faults(), *self._reference_faults(), *sweep_faults(self), *parallel_faults(self)]

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
_COUNT = ("parameters",)
_ALLOWED: dict[str | int, tuple[str, ...]] = {
    "arguments": _ANY,
    "command": _ANY,
    "distribution": VALUES,
    "node_count": _COUNT,
    "process_count_per_node": _COUNT,
    "options": VALUES,
    "parameters": VALUES,
    "inputs": VALUES,
    "outputs": VALUES,
    "environment": VALUES,
}


def named_after_script(data: Any, field: str) -> Any:  # noqa: ANN401 -- whatever a user wrote
    """Return what a user wrote for a step; without a name it is named after its script."""
    if isinstance(data, dict) and isinstance(data.get(field), str | os.PathLike):
        data[field] = os.fspath(data[field])
        data.setdefault("name", PurePosixPath(data[field]).stem)
    return data


def empty_command(command: str | tuple[str, ...]) -> Iterator[Fault]:
    """Yield what is wrong with a command line that says nothing."""
    if not command or (isinstance(command, str) and not command.strip()):
        yield Fault(("command",), "must not be empty", "Give a command line")


def command_texts(command: str | tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Yield the texts of a command line, each with its path in the step."""
    if isinstance(command, str):
        yield ("command",), command
    else:
        yield from ((("command", index), text) for index, text in enumerate(command))
