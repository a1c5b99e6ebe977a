"""Inputs of operators: what other tasks give is kept apart from what a definition can say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_mlpipe.definitions import StepOutput

if TYPE_CHECKING:
    from collections.abc import Mapping


def split_inputs(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, XComArg]]:
    """Return inputs as a definition declares them, and those that another task's XCom gives."""
    upstream = {name: value for name, value in inputs.items() if isinstance(value, XComArg)}
    return {name: bound_to(value) for name, value in inputs.items()}, upstream


def bound_to(value: Any) -> Any:
    """Return what a definition says of an input: an XCom stands for the output of the task that gives it."""
    if not isinstance(value, XComArg):
        return value
    operator, key = next(iter(value.iter_references()))
    return StepOutput(step=operator.task_id, output=key if key.isidentifier() else "return_value")
