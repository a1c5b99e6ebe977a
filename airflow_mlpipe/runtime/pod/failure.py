"""How a staging container says what went wrong: as its termination message, which is part of the pod's state.

It is there for whoever looks at the pod, also where the store cannot be reached; Kubernetes keeps 4,096 bytes of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlpipe import exceptions
from airflow_mlpipe.exceptions import InputLostError, MlpipeError, StepError

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 2_500
"""Characters of a message; those that are no ASCII take several bytes."""


def dump(error: Exception) -> str:
    """Return an error as a text that `load` understands."""
    kind = type(error).__name__ if isinstance(error, MlpipeError) else StepError.__name__
    data = {"error": kind, "message": _short(str(error) or type(error).__name__)}
    if isinstance(error, InputLostError):
        data |= {"path": error.path, "reason": _short(error.reason)}
    return json.dumps(data, ensure_ascii=False)


def load(text: str) -> MlpipeError | None:
    """Return the error that a termination message tells of; None if it tells of none."""
    try:
        data = json.loads(text)
        kind, message = data["error"], str(data["message"])
    except (ValueError, KeyError, TypeError):
        return None
    if kind == InputLostError.__name__:
        return InputLostError(message, str(data.get("path", "")), str(data.get("reason", "")))
    cls = getattr(exceptions, str(kind), None)
    simple = isinstance(cls, type) and issubclass(cls, MlpipeError) and cls is not exceptions.DefinitionError
    return cls(message) if cls is not None and simple else StepError(message)


def write(path: Path, error: Exception) -> None:
    """Leave an error as the termination message."""
    path.write_text(dump(error), "utf-8")


def _short(text: str) -> str:
    shown = text.encode()[: _LONGEST - 4].decode("utf-8", "ignore")
    return text if len(text.encode()) <= _LONGEST else f"{shown} ..."
