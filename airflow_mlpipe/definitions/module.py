"""`Module`: a reusable, versioned step or sequence of steps, kept in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, StrictBool

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.data import ModuleInput, StepOutput, binding
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, refuse, shown
from airflow_mlpipe.definitions.kinds import AnyStep, step_of, steps_of
from airflow_mlpipe.definitions.modulestep import ModuleStep
from airflow_mlpipe.definitions.parameter import PipelineParameter
from airflow_mlpipe.definitions.sequence import listed
from airflow_mlpipe.definitions.sweep import swept
from airflow_mlpipe.definitions.values import PortName, StepName


class ModulePort(Definition):
    """An input that a module declares."""

    description: str = ""


def _port(value: object, _: str) -> ModulePort:
    return build(ModulePort, {} if value is None else value)


def _output(value: object, name: str) -> StepOutput:
    """Nothing said means the output of the same name of the module's only step."""
    if value is None or value == {}:
        return StepOutput(step="", output=name)
    bound = binding(value, name)
    if isinstance(bound, ModuleInput) or not isinstance(bound, StepOutput):
        message = "must be the output of a step"
        raise refuse(message, "Write ${{ steps.<step>.outputs.<name> }}", value)
    return bound


ModuleInputs = Annotated[
    dict[PortName, ModulePort], BeforeValidator(lambda value: ports.each(ports.by_name(value), _port))
]
ModuleOutputs = Annotated[
    dict[PortName, StepOutput], BeforeValidator(lambda value: ports.each(ports.by_name(value), _output))
]
OneStep = Annotated[Any, BeforeValidator(lambda value: None if value is None else step_of(value))]
Steps = Annotated[tuple[Any, ...], BeforeValidator(lambda value: steps_of(listed(value)))]


class Module(Definition):
    """A step or steps that pipelines share: `kind: module` in a pipeline puts them in place."""

    name: StepName
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]*$")]
    """For example `"1.0"`; the highest is taken where no version is asked for and none is marked as default."""
    default: StrictBool = False
    """Whether this version is taken where none is asked for."""
    description: str = ""
    inputs: ModuleInputs = Field(default_factory=dict)
    """What the module reads; its steps write `${{ inputs.<name> }}` in their own inputs."""
    outputs: ModuleOutputs = Field(default_factory=dict)
    """What the module leaves: the outputs of its steps by the names pipelines use."""
    parameters: Annotated[dict[PortName, PipelineParameter], BeforeValidator(ports.parameters)] = Field(
        default_factory=dict
    )
    """The values that its uses may set."""
    step: OneStep = None
    """The only step."""
    steps: Steps = ()
    """The steps, as in a pipeline; in place of step."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Name the only step after the module."""
        if isinstance(data, Mapping) and isinstance(data.get("step"), Mapping):
            return {**data, "step": {"name": data.get("name"), **data["step"]}}
        return data

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from."""
        return self._folder

    @folder.setter
    def folder(self, folder: Path) -> None:
        self._folder = Path(folder)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "folder":  # where it was read is no part of what is frozen
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def inner(self) -> tuple[AnyStep, ...]:
        """The steps, one or many."""
        return self.steps if self.step is None else (self.step,)

    def outer_outputs(self) -> dict[str, StepOutput]:
        """Return which output of which inner step each output of the module is."""
        if self.step is None:
            return dict(self.outputs)
        if not self.outputs:
            return dict(self.step.output)
        return {
            name: StepOutput(step=self.step.name, output=bound.output, mode=bound.mode)
            for name, bound in self.outputs.items()
        }

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*self._step_faults(), *self._input_faults(), *self._output_faults(), *self._parameter_faults()]

    def _step_faults(self) -> Iterator[Fault]:
        if (self.step is None) == (not self.steps):
            yield Fault((), "has no step, or both step and steps", "Give step: for one, steps: for several")
        if isinstance(self.step, ModuleStep):
            yield Fault(("step",), "is a module itself", "Write steps: and give it a name")

    def _path(self, step: AnyStep) -> tuple[str, ...]:
        return ("step",) if self.step is not None else ("steps", step.name)

    def _input_faults(self) -> Iterator[Fault]:
        for step in self.inner:
            for name, bound in step.inputs.items():
                if isinstance(bound, ModuleInput) and bound.output not in self.inputs:
                    remedy = did_you_mean(bound.output, self.inputs, "inputs.")
                    message = "names an input that the module does not declare"
                    yield Fault(
                        (*self._path(step), "inputs", name),
                        message,
                        remedy,
                        bound.output,
                        about=("inputs", bound.output),
                    )

    def _output_faults(self) -> Iterator[Fault]:
        steps = {step.name: step for step in self.inner}
        for name, bound in self.outer_outputs().items():
            step = steps.get(bound.step)
            if step is None:
                remedy = did_you_mean(bound.step, steps, "steps.")
                yield Fault(("outputs", name), "names a step that does not exist", remedy, shown(bound.step))
            elif not isinstance(step, ModuleStep) and bound.output not in step.outputs:
                remedy = did_you_mean(bound.output, step.outputs)
                yield Fault(
                    ("outputs", name), f"names an output that {step.name} does not declare", remedy, bound.output
                )

    def _parameter_faults(self) -> Iterator[Fault]:
        for step in self.inner:
            for path, ref in step.references():
                own = (*step.parameters, *swept(step)) if path[0] != "parameters" else ()
                if ref.kind == "parameters" and ref.name not in own and ref.name not in self.parameters:
                    remedy = did_you_mean(ref.name, [*self.parameters, *own], "parameters.")
                    message = "names a parameter that the module does not declare"
                    yield Fault((*self._path(step), *path), message, remedy, str(ref), about=("parameters", ref.name))
            for name in step.condition.parameters if step.condition else ():
                if name not in self.parameters:
                    remedy = did_you_mean(name, self.parameters, "parameters.")
                    message = "names a parameter that the module does not declare"
                    given = f"parameters.{name}"
                    yield Fault((*self._path(step), "run_if"), message, remedy, given, about=("parameters", name))


def chosen(versions: Iterable[Module], version: str | None) -> Module | None:
    """Return the module of that version, else the one marked as default, else the highest."""
    versions = list(versions)
    if version is not None:
        return next((module for module in versions if module.version == version), None)
    marked = [module for module in versions if module.default]
    return max(marked or versions, key=lambda module: _order(module.version), default=None)


def _order(version: str) -> tuple[tuple[int, str], ...]:
    """Numbers count as numbers, so 1.10 is above 1.9; a word is below any number, so 1.0-beta is below 1.0."""
    parts = re.findall(r"\d+|[A-Za-z]+", version)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in [*parts, "0"])
