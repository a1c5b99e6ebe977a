"""What a pipeline as a whole must keep to; each rule is a function that yields what breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.conditions import Kind, check_kinds
from airflow_mlpipe.definitions.data import DataLink, ModuleInput, StepOutput
from airflow_mlpipe.definitions.destinations import place_faults
from airflow_mlpipe.definitions.faults import Fault, Path, Refused, did_you_mean, shown
from airflow_mlpipe.definitions.graph import cycle_of, edges_of
from airflow_mlpipe.definitions.parallel import helpers_of
from airflow_mlpipe.definitions.schedule import uses_assets
from airflow_mlpipe.definitions.steps import DataTransferStep
from airflow_mlpipe.definitions.sweep import swept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.pipeline import Pipeline
    from airflow_mlpipe.definitions.steps import Step

FIRST_TASK = "plan"
PARAMETER_OF_EVERY_PIPELINE = "regenerate_outputs"


def pipeline_faults(pipeline: Pipeline) -> Iterator[Fault]:
    """Yield everything that is wrong with a pipeline whose fields are right one by one."""
    if not pipeline.steps:
        yield Fault(("steps",), "is empty", "Give at least one step", of_all=True)
    if pipeline.start_date and pipeline.end_date and pipeline.start_date > pipeline.end_date:
        yield Fault(("end_date",), "is before the start date", "Swap them, or leave one out", str(pipeline.end_date))
    yield from _reserved(pipeline)
    yield from _same_names(list(pipeline.parameters), ("parameters",))
    steps = {step.name: step for step in pipeline.steps}
    for step in pipeline.steps:
        yield from _bindings(step, steps)
        yield from _order(step, steps)
        yield from _values(step, pipeline)
        yield from _condition(step, steps, pipeline)
    yield from _circle(pipeline)
    yield from place_faults(pipeline)


def _reserved(pipeline: Pipeline) -> Iterator[Fault]:
    for name in pipeline.parameters:
        if name.casefold() == PARAMETER_OF_EVERY_PIPELINE:
            remedy = "Choose another name"
            yield Fault(("parameters", name), "is a parameter that every pipeline has", remedy, name, at_key=True)
    for step in pipeline.steps:
        if step.name == FIRST_TASK:
            message = "is the name of the task that every pipeline begins with"
            yield Fault(("steps", step.name), message, "Choose another name", step.name, at_key=True)
    helpers = {task: step.name for step in pipeline.steps for task in helpers_of(step)}
    for step in pipeline.steps:
        if step.name in helpers:
            message = f"is the name of a task that the step {helpers[step.name]} has"
            yield Fault(("steps", step.name), message, "Choose another name", step.name, at_key=True)


def _at(step: Step, path: Path) -> Path:
    return ("steps", step.name, *path)


def input_path(step: Step, name: str) -> Path:
    """Return where an input is written."""
    return _at(step, ("source",) if isinstance(step, DataTransferStep) else ("inputs", name))


def _bindings(step: Step, steps: dict[str, Step]) -> Iterator[Fault]:
    for name, bound in step.inputs.items():
        path = input_path(step, name)
        match bound:
            case ModuleInput():
                remedy = "Name the output of a step, ${{ steps.<step>.outputs.<name> }}, or existing data"
                yield Fault(path, "has a meaning only within a module", remedy, f"${{{{ inputs.{bound.output} }}}}")
            case DataLink():
                remedy = "List the step that has it among its outputs"
                yield Fault(path, "is made by no step of the pipeline", remedy, shown(bound.output))
            case StepOutput():
                yield from _output(bound, path, steps)


def _output(bound: StepOutput, path: Path, steps: dict[str, Step]) -> Iterator[Fault]:
    if bound.step not in steps:
        remedy = did_you_mean(bound.step, steps, "steps.")
        yield Fault(path, "names a step that does not exist", remedy, str(bound.ref), about=("steps", bound.step))
    elif bound.output not in (known := steps[bound.step].outputs):
        about = ("steps", bound.step, "outputs", bound.output)
        remedy = did_you_mean(bound.output, known, f"steps.{bound.step}.outputs.")
        yield Fault(path, f"names an output that {bound.step} does not declare", remedy, str(bound.ref), about=about)


def _order(step: Step, steps: dict[str, Step]) -> Iterator[Fault]:
    for index, name in enumerate(step.run_after):
        if name not in steps:
            path = _at(step, ("run_after", index))
            remedy = did_you_mean(name, [other for other in steps if other != step.name])
            yield Fault(path, "names a step that does not exist", remedy, shown(name), about=("steps", name))


_KINDS: dict[str, Kind] = {"string": "text", "number": "number", "integer": "number", "boolean": "truth"}


def _condition(step: Step, steps: dict[str, Step], pipeline: Pipeline) -> Iterator[Fault]:
    if step.condition is None:
        return
    path = _at(step, ("run_if",))
    for metric in step.condition.metrics:
        if metric.step not in steps:
            remedy = did_you_mean(metric.step, [other for other in steps if other != step.name], "steps.")
            yield Fault(path, "names a step that does not exist", remedy, str(metric), about=("steps", metric.step))
        elif isinstance(steps[metric.step], DataTransferStep):
            message = f"names a metric of {metric.step}, and a data transfer logs none"
            yield Fault(path, message, "Name a step whose script logs it", str(metric))
    for name in step.condition.parameters:
        if name not in pipeline.parameters:
            remedy = did_you_mean(name, pipeline.parameters, "parameters.")
            message = "names a parameter that the pipeline does not have"
            yield Fault(path, message, remedy, f"parameters.{name}", about=("parameters", name))
    declared = ((name, _KINDS.get(given.type)) for name, given in pipeline.parameters.items())
    try:
        check_kinds(step.condition, {name: kind for name, kind in declared if kind})
    except Refused as error:
        yield from (fault.below(*path) for fault in error.faults)


def _values(step: Step, pipeline: Pipeline) -> Iterator[Fault]:
    own = {*step.parameters, *swept(step)}
    used = [*step.parameters, *swept(step)]
    for path, ref in step.references():
        if ref.kind == "run" and ref.name != "run_after" and uses_assets(pipeline.schedule):
            message = "is not there in runs that assets start"
            yield Fault(_at(step, path), message, "Use ${{ run.run_after }}, which every run has", str(ref))
        if ref.kind != "parameters":
            continue
        known = set(pipeline.parameters) | (own if path[0] != "parameters" else set())
        if ref.name not in known:
            remedy = did_you_mean(ref.name, sorted(known), "parameters.")
            message = "names a parameter that does not exist"
            yield Fault(_at(step, path), message, remedy, str(ref), about=("parameters", ref.name))
        used.append(ref.name)
    yield from _same_names(list(dict.fromkeys(used)), _at(step, ("parameters",)), only=own)


def _same_names(names: list[str], path: Path, only: set[str] | None = None) -> Iterator[Fault]:
    """Yield the names that differ only by case; scripts read them from variables in upper case."""
    seen: dict[str, str] = {}
    for name in reversed(names) if only else names:
        earlier = seen.setdefault(name.casefold(), name)
        if earlier != name and (only is None or name in only):
            message = f"is the same name as {earlier}; upper and lower case are not told apart"
            yield Fault((*path, name), message, "Choose another name", shown(name), at_key=True)


def _circle(pipeline: Pipeline) -> Iterator[Fault]:
    circle = cycle_of(edges_of(pipeline.steps))
    if not circle:
        return
    step = pipeline.step(circle[1]) if len(circle) > 1 else pipeline.steps[0]
    message = "the steps need each other in a circle"
    remedy, given = "Take one of these needs away", " -> ".join(circle)
    yield Fault(("steps", step.name), message, remedy, given, at_key=True, of_all=True)
