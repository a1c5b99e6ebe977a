"""Which class reads which kind of step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.faults import Fault, Path, Refused, did_you_mean, faults_of, nearest, refuse, shown
from airflow_mlpipe.definitions.modulestep import ModuleStep
from airflow_mlpipe.definitions.mpi import MpiStep
from airflow_mlpipe.definitions.steps import CommandStep, DataTransferStep, PythonScriptStep

if TYPE_CHECKING:
    from airflow_mlpipe.definitions.sequence import Listed

AnyStep: TypeAlias = PythonScriptStep | CommandStep | EstimatorStep | MpiStep | DataTransferStep | ModuleStep
"""A step as it is written."""

KINDS: dict[str, type[AnyStep]] = {
    "python_script": PythonScriptStep,
    "command": CommandStep,
    "estimator": EstimatorStep,
    "mpi": MpiStep,
    "data_transfer": DataTransferStep,
    "module": ModuleStep,
}
_TELLING = {
    "entry_script": "estimator",
    "node_count": "mpi",
    "process_count_per_node": "mpi",
    "script_name": "python_script",
    "command": "command",
    "source": "data_transfer",
    "module": "module",
}
"""The field that tells a kind where it is not said, or wrongly."""


def step_of(given: object) -> AnyStep:
    """Return the step that plain data stands for.

    :raises pydantic.ValidationError: if its fields are wrong.
    :raises Refused: (a ValueError) if its kind is.
    """
    if isinstance(given, AnyStep):
        return given
    if not isinstance(given, Mapping):
        message = "must be a mapping of fields to values"
        raise refuse(message, "Write one `field: value` a line, indented", given)
    kind = given.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return build(KINDS[kind], given)
    raise Refused([_kind_fault(kind, given)])


def _kind_fault(kind: object, given: Mapping[str, object]) -> Fault:
    likely = nearest(kind, KINDS) or next((kind for field, kind in _TELLING.items() if field in given), None)
    if kind is None:
        remedy = f"Write kind: {likely}" if likely else "Write kind: and one of " + ", ".join(KINDS)
        return Fault(("kind",), "is missing", remedy, better=likely)
    return Fault(("kind",), "is no kind of step", did_you_mean(kind, KINDS), shown(kind), better=likely)


def steps_of(items: list[Listed]) -> tuple[AnyStep, ...]:
    """Return the steps that a list of plain data stands for; what is wrong in all of them comes at once."""
    made: list[AnyStep] = []
    faults: list[Fault] = []
    seen: dict[str, Path] = {}
    for item in items:
        try:
            step = step_of(item.given)
        except (ValidationError, Refused) as error:
            found = faults_of(error)
            faults += [(fault.named_by_key() if item.by_key else fault).below(*item.path) for fault in found]
            continue
        if step.name in seen:
            remedy = "Give each step its own name"
            faults.append(Fault(item.at, "is the name of another step too", remedy, shown(step.name), at_key=True))
        seen[step.name] = item.path
        after = tuple(dict.fromkeys((*step.run_after, *item.after)))
        made.append(step if after == step.run_after else step.model_copy(update={"run_after": after}))
    if faults:
        raise Refused(faults)
    return tuple(made)
