"""From the steps as a user listed them to the steps of a pipeline: built, linked, modules expanded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlpipe.definitions.data import DataLink, InputBinding, PipelineData, StepOutput
from airflow_mlpipe.definitions.expand import Expanded, expand
from airflow_mlpipe.definitions.faults import Fault, Refused, did_you_mean, faults_of, refuse, shown
from airflow_mlpipe.definitions.kinds import AnyStep, steps_of
from airflow_mlpipe.definitions.module import Module
from airflow_mlpipe.definitions.modulestep import ModuleStep
from airflow_mlpipe.definitions.sequence import listed
from airflow_mlpipe.definitions.steps import DATA, DataTransferStep, Step

if TYPE_CHECKING:
    from pathlib import Path

FindModule: TypeAlias = Callable[[str, "str | None"], Module]

MAX_DEPTH = 20


@dataclass(frozen=True)
class Surroundings:
    """What a pipeline needs to know of where it is written: its folder (None for Python), and how to find a module."""

    find: FindModule
    folder: Path | None = None


def assemble(given: object, around: Surroundings) -> tuple[Step, ...]:
    """Return the steps of a pipeline.

    :raises Refused: (a ValueError) with everything that is wrong in any of them.
    """
    steps = _linked(steps_of(listed(given)))
    modules = _Modules(around)
    flat = [inner for step in steps for inner in modules.flat(step)]
    if modules.faults:
        raise Refused(modules.faults)
    placed = tuple(modules.resolved(step) for step in flat)
    if modules.faults:
        raise Refused(modules.faults)
    return _distinct(placed)


def _linked(steps: tuple[AnyStep, ...]) -> tuple[AnyStep, ...]:
    """Put the step that makes it in the place of each `PipelineData` object."""
    makers = [(data, step.name, name) for step in steps for name, data in step.outputs.items()]

    def link(bound: InputBinding) -> InputBinding:
        if not isinstance(bound, DataLink):
            return bound
        found = [maker for maker in makers if maker[0] is bound.data] or [
            maker for maker in makers if maker[0] == bound.data
        ]
        if len(found) != 1:
            return bound
        return StepOutput(step=found[0][1], output=found[0][2], mode=bound.mode)

    _refuse_two_makers(makers)
    return tuple(_with_inputs(step, {name: link(bound) for name, bound in step.inputs.items()}) for step in steps)


def _refuse_two_makers(makers: list[tuple[PipelineData, str, str]]) -> None:
    first: dict[int, str] = {}
    for data, step, name in makers:
        if first.setdefault(id(data), step) != step:
            message = f"is also an output of {first[id(data)]}"
            raise refuse(message, "Give each step its own PipelineData", name, (step, "outputs", name))


def _with_inputs(step: AnyStep, inputs: Mapping[str, InputBinding]) -> AnyStep:
    if all(inputs[name] is bound for name, bound in step.inputs.items()):
        return step
    if isinstance(step, DataTransferStep):
        return step.model_copy(update={"source": inputs[DATA]})
    return step.model_copy(update={"inputs": dict(inputs)})


@dataclass
class _Modules:
    """Expands module steps, and remembers what their names stand for."""

    around: Surroundings
    expanded: dict[str, Expanded] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def flat(self, step: AnyStep, depth: int = 0) -> Iterable[Step]:
        if not isinstance(step, ModuleStep):
            return [step]
        try:
            whole = expand(step, self._module(step, depth), self.around.folder)
        except Refused as error:
            self.faults += [fault.below(step.name) for fault in faults_of(error)]
            return []
        self.expanded[step.name] = whole
        return [inner for part in whole.steps for inner in self.flat(part, depth + 1)]

    def _module(self, step: ModuleStep, depth: int) -> Module:
        if depth > MAX_DEPTH:
            message = "uses itself, through the modules it uses"
            raise refuse(message, "Take one of these uses away", step.module, ("module",))
        if isinstance(step.definition, Module):
            return step.definition
        return self.around.find(step.module, step.version)

    def resolved(self, step: Step) -> Step:
        if not self.expanded:
            return step
        inputs = {name: self._output(step, name, bound) for name, bound in step.inputs.items()}
        after = tuple(dict.fromkeys(end for name in step.run_after for end in self._ends(name)))
        placed = step if after == step.run_after else step.model_copy(update={"run_after": after})
        return _with_inputs(placed, inputs)  # type: ignore[return-value] # no module step is left

    def _output(self, step: Step, name: str, bound: InputBinding) -> InputBinding:
        while isinstance(bound, StepOutput) and bound.step in self.expanded:
            known = self.expanded[bound.step].outputs
            if bound.output not in known:
                self._unknown(step, name, bound, known)
                return bound
            target = known[bound.output]
            if target.step == bound.step:
                return bound.model_copy(update={"output": target.output})
            bound = target.model_copy(update={"mode": bound.mode})
        return bound

    def _unknown(self, step: Step, name: str, bound: StepOutput, known: Mapping[str, StepOutput]) -> None:
        message = f"names an output that {bound.step} does not declare"
        remedy = did_you_mean(bound.output, known, f"steps.{bound.step}.outputs.")
        self.faults.append(Fault((step.name, "inputs", name), message, remedy, str(bound.ref)))

    def _ends(self, name: str) -> tuple[str, ...]:
        whole = self.expanded.get(name)
        if whole is None or whole.ends == (name,):
            return (name,)
        return tuple(end for inner in whole.ends for end in self._ends(inner))


def _distinct(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    seen: set[str] = set()
    faults = []
    for step in steps:
        if step.name in seen:
            faults.append(
                Fault((step.name,), "is the name of another step too", "Rename one of them", shown(step.name))
            )
        seen.add(step.name)
    if faults:
        raise Refused(faults)
    return steps
