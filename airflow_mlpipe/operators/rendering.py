"""What Jinja may do with the fields of an operator, and what it may not.

Expressions, ``${{ ... }}``, are ours: Jinja never sees them. Only the author of a DAG writes them: a value that comes
out of a template or from another task is data, so it may not hold one. Neither may it hold what Airflow keeps secret,
since the arguments and parameters of a step are kept in its record.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.log import redact

from airflow_mlpipe.exceptions import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

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
    rendered = render(_EXPRESSION.sub(lambda _: f"{mark}{next(numbers)}_", text))
    if not isinstance(rendered, str):
        return as_data(rendered)
    if redact(rendered) != rendered:
        message = (
            "a template puts a value that Airflow keeps secret where it would be recorded; hand it over as one of the "
            "secrets of the environment: environment={'secrets': {'<VARIABLE>': 'connection:<id>.<field>'}}"
        )
        raise ParameterError(message)
    as_data(rendered)
    return re.sub(f"{mark}([0-9]+)_", lambda found: kept[int(found[1])], rendered)


def as_data(value: Any) -> Any:
    """Return a value that nobody wrote into the DAG.

    :raises ParameterError: if it holds an expression.
    """
    match value:
        case str() if _OPENING in value:
            message = (
                f"a value given at run time holds an expression: {value!r}. Only the DAG file may: write "
                "${{ parameters.<name> }} there, and give the value as that parameter"
            )
            raise ParameterError(message)
        case list() | tuple() | set():
            for item in value:
                as_data(item)
        case Mapping():
            for item in value.values():
                as_data(item)
    return value
