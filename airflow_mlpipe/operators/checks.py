"""What can be said of a step when its DAG is parsed: what does not fit the DAG, the workspace, or the files there are."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_mlpipe.definitions import StepOutput
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, shown
from airflow_mlpipe.definitions.files import file_faults
from airflow_mlpipe.exceptions import DefinitionError, Problem
from airflow_mlpipe.operators.binding import standing_alone
from airflow_mlpipe.operators.here import workspace_at
from airflow_mlpipe.operators.inputs import is_open

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from airflow.sdk import DAG

    from airflow_mlpipe.definitions import Step

WHOLE = "return_value"
"""The XCom key under which a task leaves all its outputs together; no output may have this name."""


def owner_of(operator_class: type, task_id: str) -> str:
    """Return how messages name the operator that a fault is about."""
    return f"{operator_class.__name__}(task_id={task_id!r})"


def written_at(problem: Problem) -> Problem:
    """Return a problem with the file and line of whoever writes the operator, which Airflow's traceback leaves out."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 -- documented; `inspect` would read all source files
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in {
        "airflow",
        __package__.partition(".")[0],
    }:
        frame = frame.f_back
    return problem if frame is None else replace(problem, file=frame.f_code.co_filename, line=frame.f_lineno, column=1)


def check_ports(owner: str, step: Step) -> None:
    """Check that Airflow takes the names of the outputs and of their assets.

    :raises DefinitionError: naming those that it does not.
    """
    _refuse(owner, step, _port_faults(step))


def check_written(  # noqa: PLR0913 -- all that surrounds a step
    owner: str,
    step: Step,
    dag: DAG,
    folder: Path,
    workspace: str | Path | None,
    params: Collection[str],
    upstream: Mapping[str, Any],
) -> None:
    """Check a step of a hand-written DAG against its surroundings.

    Names and files only while Airflow parses the DAG's own file: a DAG that a helper module makes gets its place
    afterwards.

    :param params: the names of the DAG's params.
    :param upstream: the inputs that other tasks give.
    :raises DefinitionError: with everything that is wrong.
    """
    faults = [*_port_faults(step), *_binding_faults(step, upstream), *_parameter_faults(step, params)]
    if folder.is_absolute() and _is_parsed(dag.fileloc):
        place = workspace_at(workspace, folder)
        alone = standing_alone(dag.dag_id, step, folder)
        around = [*place.faults(alone), *file_faults(alone)]
        faults += [fault for fault in around if not is_open(fault.value)]
    _refuse(owner, step, faults)


def _refuse(owner: str, step: Step, faults: Iterable[Fault]) -> None:
    problems = [_problem(owner, step, fault) for fault in faults]
    if problems:
        raise DefinitionError(problems)


def _problem(owner: str, step: Step, fault: Fault) -> Problem:
    path = fault.path[2:] if fault.path[:2] == ("steps", step.name) else fault.path
    return replace(fault, path=(owner, *path)).problem()


def _port_faults(step: Step) -> Iterator[Fault]:
    for name, output in step.outputs.items():
        if name == WHOLE:
            yield Fault(("outputs", WHOLE), "is the name of all outputs together", "Choose another name")
        if output.asset is not None and not is_open(output.asset) and (wrong := _wrong_asset(output.asset)):
            remedy = "Choose another name or URI for the asset"
            yield Fault(("outputs", name, "asset"), f"is no asset: {wrong}", remedy, shown(output.asset))


def _wrong_asset(name: str) -> str:
    try:
        Asset(name)
    except ValueError as error:
        return str(error)
    return ""


def _binding_faults(step: Step, upstream: Mapping[str, Any]) -> Iterator[Fault]:
    for name, bound in step.inputs.items():
        path = ("source",) if step.kind == "data_transfer" else ("inputs", name)
        if not isinstance(bound, StepOutput):
            continue
        if name not in upstream:
            message = "names the output of a step, which only pipelines have"
            yield Fault(path, message, "Give the output of another task, other.output['<name>']", shown(bound.output))
        elif not getattr(upstream[name], "operator", None):
            continue
        elif (declared := _outputs_of(upstream[name].operator)) is not None:
            yield from _output_faults(path, upstream[name], declared)


def _outputs_of(task: Any) -> Collection[str] | None:
    """Return the outputs of another task, if it is one of ours."""
    step = getattr(task, "step", None)
    return None if step is None else tuple(step.outputs)


def _output_faults(path: tuple[str, ...], given: Any, declared: Collection[str]) -> Iterator[Fault]:
    task = given.operator.task_id
    if given.key == WHOLE:
        message = f"is all outputs of {task} together"
        yield Fault(path, message, f"Name one of them: {', '.join(f'output[{name!r}]' for name in declared)}")
    elif given.key not in declared:
        remedy = did_you_mean(given.key, declared)
        yield Fault(path, f"names an output that {task} does not have", remedy, shown(given.key))


def _parameter_faults(step: Step, params: Collection[str]) -> Iterator[Fault]:
    used = dict.fromkeys(step.parameters)
    for path, ref in step.references():
        if ref.kind != "parameters":
            continue
        own = step.parameters if path[0] != "parameters" else ()
        if ref.name in params or ref.name in own:
            used[ref.name] = None
        else:
            remedy = did_you_mean(ref.name, [*params, *own], "parameters.")
            message = "names a parameter that neither the DAG's params nor the operator's parameters have"
            yield Fault(path, message, remedy, str(ref))
    yield from _same_names(used)


def _same_names(names: Iterable[str]) -> Iterator[Fault]:
    """Yield the parameters that differ only by case; commands read them from variables in upper case."""
    seen: dict[str, str] = {}
    for name in names:
        earlier = seen.setdefault(name.casefold(), name)
        if earlier != name:
            message = f"is the same name as {earlier}; upper and lower case are not told apart"
            yield Fault(("parameters", name), message, "Choose another name", shown(name))


def _is_parsed(file: str) -> bool:
    """Say whether Airflow runs a file as a DAG file now: as such, not a function in it, nor as an import of another."""
    frame = sys._getframe()  # noqa: SLF001 -- as Airflow does, to learn which file makes a DAG
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            around = frame.f_back
            while around is not None and around.f_code.co_filename.startswith("<frozen importlib"):
                if around.f_code.co_name == "_find_and_load":
                    return False
                around = around.f_back
            return True
    return False
