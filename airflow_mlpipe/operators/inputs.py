"""Fields of operators that Airflow touches: what other tasks give, and what Jinja renders."""

from __future__ import annotations

import re
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


_EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)


def kept_from_jinja(value: Any) -> Any:
    """Return what Jinja renders back to a value whose expressions, ``${{ ... }}``, are ours and not Jinja's."""
    match value:
        case str():
            return _EXPRESSION.sub(lambda found: "{% raw %}" + found[0] + "{% endraw %}", value)
        case list() | tuple():
            return [kept_from_jinja(item) for item in value]
        case dict():
            return {key: kept_from_jinja(item) for key, item in value.items()}
        case _:
            return value
