"""Fields of operators that other tasks give: what the definition says of them until these have run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from airflow.sdk import XComArg

from airflow_mlpipe.definitions import StepOutput
from airflow_mlpipe.definitions.ports import by_name

LATER = "given-by-another-task"
"""Stands for a text that is not known when the DAG is parsed."""

Inputs: TypeAlias = "Mapping[str, Any]"


def given_by_tasks(inputs: Any) -> dict[str, Any]:
    """Return those of the inputs that the output of another task gives, by name.

    An output may stand there itself: where a mapped task expands over what others returned.
    """
    named = by_name(inputs)
    if not isinstance(named, Mapping):
        return {}
    return {name: value for name, value in named.items() if isinstance(value, XComArg) or _is_output(value)}


def as_defined(inputs: Any, upstream: Inputs) -> Any:
    """Return inputs as a definition takes them; those that other tasks give are outputs of theirs.

    :raises TypeError: if another task gives them all at once, so that their names are not known.
    """
    if isinstance(inputs, XComArg):
        message = "inputs must be a mapping, so that their names are known: inputs={'<name>': other.output['<name>']}"
        raise TypeError(message)
    named = by_name(inputs)
    if not isinstance(named, Mapping):
        return named
    return {name: _output(value) if name in upstream else known(value) for name, value in named.items()}


def known(value: Any) -> Any:
    """Return a field with a stand-in for each part that another task gives."""
    match value:
        case XComArg():
            return LATER
        case dict():
            return {key: known(item) for key, item in value.items()}
        case list() | tuple():
            return [known(item) for item in value]
        case _:
            return value


def _is_output(value: Any) -> bool:
    return isinstance(value, Mapping) and {"uri", "digest"} <= value.keys()


def _output(value: Any) -> StepOutput:
    if not isinstance(value, XComArg):
        return StepOutput(step=LATER, output="data")
    operator, key = next(iter(value.iter_references()))
    return StepOutput(step=operator.task_id, output=key if key.isidentifier() else "return_value")
