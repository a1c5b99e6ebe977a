"""Putting the steps of a module in the place of the step that uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlpipe.definitions.conditionnodes import Metric
from airflow_mlpipe.definitions.conditions import both, constant_text
from airflow_mlpipe.definitions.data import DataReference, InputBinding, ModuleInput, PipelineData, Place, StepOutput
from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.expressions import Ref, parse, refs
from airflow_mlpipe.definitions.faults import Fault, Refused, did_you_mean, refuse, shown
from airflow_mlpipe.definitions.steps import DataTransferStep
from airflow_mlpipe.definitions.sweep import swept
from airflow_mlpipe.exceptions import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_mlpipe.definitions.kinds import AnyStep
    from airflow_mlpipe.definitions.module import Module
    from airflow_mlpipe.definitions.modulestep import ModuleStep
    from airflow_mlpipe.definitions.values import Scalar

P = TypeVar("P", bound=Place)

_HANDED_DOWN = (
    "compute",
    "environment",
    "retries",
    "retry_delay",
    "timeout",
    "pool",
    "priority",
    "on_success",
    "on_failure",
    "on_retry",
)


@dataclass(frozen=True)
class Expanded:
    """The steps in place of a module step, and which of their outputs are its outputs."""

    steps: tuple[AnyStep, ...]
    outputs: dict[str, StepOutput]
    ends: tuple[str, ...] = field(default=())


def expand(use: ModuleStep, module: Module, folder: Path | None) -> Expanded:
    """Return the inner steps, named and bound as the use of the module says.

    :param folder: the folder of the pipeline; paths become relative to it, or absolute where it is not known.
    :raises Refused: (a ValueError) if the use does not fit what the module declares.
    """
    faults = tuple(_misfits(use, module))
    if faults:
        raise Refused(faults)
    return _Use(use, module, _way(module.folder, folder)).expanded()


def _misfits(use: ModuleStep, module: Module) -> Iterator[Fault]:
    outputs = module.outer_outputs()
    for kind, given, known in (
        ("input", use.inputs, module.inputs),
        ("output", use.outputs, outputs),
        ("parameter", use.parameters, module.parameters),
    ):
        for name in given:
            if name not in known:
                message = f"is no {kind} of the module {module.name} {module.version}"
                yield Fault((f"{kind}s", name), message, did_you_mean(name, known), shown(name), at_key=True)
    for name in module.inputs:
        if name not in use.inputs:
            yield Fault(("inputs",), f"lacks {name}, which the module {module.name} reads", f"Bind {name}")
    for name, parameter in module.parameters.items():
        value = use.parameters.get(name, parameter.default)
        if value is None:
            yield Fault(("parameters",), f"lacks {name}, which the module {module.name} needs", f"Give {name}")
        elif not (isinstance(value, str) and refs(value)):
            try:
                parameter.value(value)
            except ParameterError as error:
                yield Fault(("parameters", name), f"is refused: {error}")


def _way(inner: Path, outer: Path | None) -> str:
    return str(inner) if outer is None else os.path.relpath(inner, outer)


@dataclass(frozen=True)
class _Use:
    use: ModuleStep
    module: Module
    way: str

    def expanded(self) -> Expanded:
        outputs = {name: self._renamed(bound) for name, bound in self.module.outer_outputs().items()}
        overrides = {(outputs[name].step, outputs[name].output): data for name, data in self.use.outputs.items()}
        steps = tuple(self._step(step, overrides) for step in self.module.inner)
        needed = {name for step in steps for name in _needs(step)}
        return Expanded(steps, outputs, tuple(step.name for step in steps if step.name not in needed))

    def _name(self, inner: str) -> str:
        return self.use.name if self.module.step is not None else f"{self.use.name}.{inner}"

    def _renamed(self, bound: StepOutput) -> StepOutput:
        return bound.model_copy(update={"step": self._name(bound.step)})

    def _step(self, step: AnyStep, overrides: dict[tuple[str, str], PipelineData]) -> AnyStep:
        name = self._name(step.name)
        changed: dict[str, Any] = {"name": name, "run_after": tuple(self._name(other) for other in step.run_after)}
        changed |= {key: getattr(self.use, key) for key in _HANDED_DOWN if getattr(step, key) is None}
        changed["environment"] = self._environment(step, changed)
        changed["labels"] = {**self.use.labels, **step.labels}
        changed["resources"] = step.resources or self.use.resources
        changed["run_if"] = both(self.use.run_if, self._run_if(step))
        changed["allow_reuse"] = step.allow_reuse and self.use.allow_reuse
        if isinstance(step, DataTransferStep):
            changed["source"] = self._bound(step.source)
            changed["destination"] = self._moved(step.destination)
        else:
            changed["inputs"] = {key: self._named(key, self._bound(bound)) for key, bound in step.inputs.items()}
            changed["outputs"] = {
                key: _overridden(self._output(data), overrides.get((name, key))) for key, data in step.outputs.items()
            }
            changed["parameters"] = self._parameters(step)
        directory = getattr(step, "source_directory", None)
        if directory is not None:
            changed["source_directory"] = _joined(self.way, directory)
        placed = step.model_copy(update=changed)
        if not _needs(placed, within=self.use.name):
            placed = placed.model_copy(update={"run_after": (*placed.run_after, *self.use.run_after)})
        return placed

    def _run_if(self, step: AnyStep) -> str | None:
        def metric(named: Metric) -> Metric:
            return Metric(self._name(named.step), named.name)

        return step.condition.rewritten(metric, self._in_condition) if step.condition else None

    def _in_condition(self, name: str) -> str:
        """Return what a condition says in the place of a parameter of the module."""
        given = self._given(name)
        parts = parse(given) if isinstance(given, str) else ()
        match parts:
            case (Ref(kind="parameters") as ref,):
                return f"parameters.{ref.name}"
            case _ if given is None or any(isinstance(part, Ref) for part in parts):
                message = f"stands in a condition of the module {self.module.name}, which cannot hold this"
                remedy = "Give a value, or one parameter: ${{ parameters.<name> }}"
                raise refuse(message, remedy, given, ("parameters", name))
        return constant_text(given)

    def _environment(self, step: AnyStep, changed: dict[str, Any]) -> object:
        environment = step.environment
        if not isinstance(environment, Environment):
            return changed.get("environment", environment)
        moved = {"requirements_file": environment.requirements_file}
        if environment.python is not None and "/" in environment.python:
            moved["python"] = environment.python
        return environment.model_copy(update={key: _joined(self.way, path) for key, path in moved.items() if path})

    def _bound(self, bound: InputBinding) -> InputBinding:
        match bound:
            case ModuleInput():
                given = self.use.inputs[bound.output]
                return given if bound.mode == "mount" else given.model_copy(update={"mode": bound.mode})
            case StepOutput():
                return self._renamed(bound)
            case DataReference():
                return self._moved(bound)

    def _named(self, name: str, bound: InputBinding) -> InputBinding:
        return bound.model_copy(update={"name": name}) if isinstance(bound, DataReference) else bound

    def _moved(self, place: P) -> P:
        if place.path is None or place.datastore is not None or place.path.startswith("${{"):
            return place
        return place.model_copy(update={"path": _joined(self.way, place.path)})

    def _output(self, data: PipelineData) -> PipelineData:
        if data.destination is None:
            return data
        return data.model_copy(update={"destination": self._moved(data.destination)})

    def _parameters(self, step: AnyStep) -> dict[str, Scalar]:
        own = {name: self._value(value) for name, value in step.parameters.items()}
        used = [ref.name for path, ref in step.references() if ref.kind == "parameters" and path[0] != "parameters"]
        return {**{name: self._given(name) for name in dict.fromkeys(used) if name not in (*own, *swept(step))}, **own}

    def _given(self, name: str) -> Scalar:
        parameter = self.module.parameters[name]
        given = self.use.parameters.get(name, parameter.default)
        return given if isinstance(given, str) and refs(given) else parameter.value(given)

    def _value(self, value: Scalar) -> Scalar:
        """Put what the use gives in the place of the module's parameters."""
        if not isinstance(value, str):
            return value
        match parse(value):
            case (Ref(kind="parameters") as ref,):
                return self._given(ref.name)
            case parts:
                return "".join(self._part(part) for part in parts)

    def _part(self, part: str | Ref) -> str:
        if isinstance(part, str):
            return part
        if part.kind != "parameters":
            return str(part)
        given = self._given(part.name)
        return str(given).lower() if isinstance(given, bool) else str(given)


def _needs(step: AnyStep, within: str = "") -> set[str]:
    """Return the steps a step needs, or only those of one module step."""
    bound = [given.step for given in step.inputs.values() if isinstance(given, StepOutput)]
    names = {*bound, *step.run_after, *(step.condition.steps if step.condition else ())}
    return {name for name in names if name.startswith(f"{within}.")} if within else names


def _overridden(data: PipelineData, override: PipelineData | None) -> PipelineData:
    if override is None:
        return data
    said = {name: getattr(override, name) for name in override.model_fields_set - {"name"}}
    return data.model_copy(update=said)


def _joined(way: str, path: str) -> str:
    return path if path.startswith(("/", "~")) else os.path.normpath(os.path.join(way, path))  # noqa: PTH118 -- text, may hold expressions
