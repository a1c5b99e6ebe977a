"""What Jinja may do with the fields of an operator, and what it may not.

Expressions, ``${{ ... }}``, are ours: Jinja never sees them. Only the author of a DAG writes them: a value that comes
out of a template or from another task is data, so it may not hold one. Neither may it hold what Airflow keeps secret,
since the arguments and parameters of a step are kept in its record.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from airflow.sdk.log import redact

from airflow_mlpipe.exceptions import ParameterError

_OPENING = "${{"
_EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)


def around_expressions(text: str, render: Callable[[str], Any]) -> Any:
    """Return what Jinja makes of a text, with the expressions in it as they were.

    :param render: asks Jinja.
    :raises ParameterError: if what came in by Jinja holds an expression, or a secret.
    """
    mark = f"mlpipe_{secrets.token_hex(8)}_"
    kept = _EXPRESSION.findall(text)
    numbers = iter(range(len(kept)))
    rendered = as_data(render(_EXPRESSION.sub(lambda _: f"{mark}{next(numbers)}_", text)))
    marked = re.compile(f"{mark}([0-9]+)_")
    return _each(
        rendered, lambda leaf: marked.sub(lambda found: kept[int(found[1])], leaf) if isinstance(leaf, str) else leaf
    )


def as_data(value: Any) -> Any:
    """Return a value that nobody wrote into the DAG; what Airflow reads item by item becomes a list.

    :raises ParameterError: if it holds an expression, or what Airflow keeps secret.
    """
    return _each(value, _harmless)


def _harmless(leaf: Any) -> Any:
    text = str(leaf) if isinstance(leaf, str | int | float) else ""
    if redact(text) != text:
        message = (
            "a value given at run time holds what Airflow keeps secret, and would be recorded; hand the secret over as "
            "one of the environment's: environment={'secrets': {'<VARIABLE>': 'connection:<id>.<field>'}}"
        )
        raise ParameterError(message)
    if _OPENING in text:
        message = (
            f"a value given at run time holds an expression: {text!r}. Only the DAG file may: write "
            "${{ parameters.<name> }} there, and give the value as that parameter"
        )
        raise ParameterError(message)
    return leaf


def _each(value: Any, changed: Callable[[Any], Any]) -> Any:
    """Return a value with everything in it changed that holds nothing else."""
    match value:
        case str() | bytes():
            return changed(value)
        case tuple():
            return tuple(_each(item, changed) for item in value)
        case Sequence() | AbstractSet():
            return [_each(item, changed) for item in value]
        case Mapping():
            return {key: _each(item, changed) for key, item in value.items()}
        case _:
            return changed(value)
