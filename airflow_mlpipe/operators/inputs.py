"""Fields of operators that other tasks give: what the definition says of them until these have run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_mlpipe.definitions import StepOutput
from airflow_mlpipe.definitions.faults import Refused
from airflow_mlpipe.definitions.ports import by_name

if TYPE_CHECKING:
    from collections.abc import Collection

LATER = "given-by-another-task"
"""Stands for a text that is not known when the DAG is parsed."""

NAMES = ("inputs", "outputs", "parameters")
"""The fields that declare names, which others refer to."""


def is_given(value: Any) -> bool:
    """Say whether another task gives a value, or the mapped task group around the task."""
    return hasattr(value, "iter_references")


def given_by_tasks(inputs: Any) -> dict[str, Any]:
    """Return those of the inputs that the output of another task gives, by name.

    An output may stand there itself: where a mapped task expands over what others returned.
    """
    try:
        named = by_name(inputs)
    except Refused:  # which the definition will say too
        return {}
    if not isinstance(named, Mapping):
        return {}
    return {name: value for name, value in named.items() if is_given(value) or _is_output(value)}


def as_defined(inputs: Any, upstream: Collection[str]) -> Any:
    """Return inputs as a definition takes them; those that other tasks give are outputs of theirs."""
    if not isinstance(inputs, Mapping):
        return inputs
    return {name: _output(value) if name in upstream else known(value) for name, value in inputs.items()}


def is_open(text: str) -> bool:
    """Say whether a name or path is not known yet: an Airflow template is in it, or another task gives it."""
    return LATER in text or "{{" in text


def known(value: Any) -> Any:
    """Return a field with a stand-in for each part that another task gives."""
    if is_given(value):
        return LATER
    match value:
        case dict():
            return {key: known(item) for key, item in value.items()}
        case list() | tuple():
            return [known(item) for item in value]
        case _:
            return value


def names_used(kind: str, value: Any) -> dict[str, str]:
    """Return a stand-in for a field that declares names: those that the expressions in other fields refer to."""
    match value:
        case str():
            return dict.fromkeys(re.findall(rf"\$\{{\{{\s*{kind}\.(\w+)\s*\}}\}}", value), LATER)
        case list() | tuple():
            return {name: LATER for item in value for name in names_used(kind, item)}
        case Mapping():
            return names_used(kind, list(value.values()))
        case _:
            return {}


def _is_output(value: Any) -> bool:
    return isinstance(value, Mapping) and {"uri", "digest"} <= value.keys()


def _output(value: Any) -> StepOutput:
    if not isinstance(value, XComArg):
        return StepOutput(step=LATER, output="data")
    operator, key = next(iter(value.iter_references()))
    return StepOutput(step=operator.task_id, output=key if key.isidentifier() else "return_value")
