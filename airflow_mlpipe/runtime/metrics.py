"""Reading `metrics.jsonl`: one JSON object a line, written by `mlpipe.Run.log` or by hand."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "metrics.jsonl"
_EXPECTED = 'expected {"name": "...", "value": <number>} and optionally "step": <integer>'


def read_metrics(path: Path) -> dict[str, float]:
    """Return the last value of each name; empty if there is no such file.

    :raises StepError: if a line is not a metric, naming the line.
    """
    metrics: dict[str, float] = {}
    if not path.exists():
        return metrics
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                name, value = _metric(line, number)
                metrics[name] = value
    return metrics


def _metric(line: bytes, number: int) -> tuple[str, float]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise _bad(line, number, f"it is not JSON ({error})") from error
    if not isinstance(data, dict) or not data.keys() <= {"name", "value", "step"}:
        raise _bad(line, number, "it is not an object with these keys")
    if not isinstance(data.get("name"), str) or not data["name"]:
        raise _bad(line, number, "its name is not a text")
    if not isinstance(data.get("step", 0), int):
        raise _bad(line, number, "its step is not an integer")
    return data["name"], _finite(data.get("value"), line, number)


def _finite(value: Any, line: bytes, number: int) -> float:  # noqa: ANN401 -- anything JSON can hold
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(line, number, "its value is not a number")
    try:
        finite = float(value)
    except OverflowError as error:
        raise _bad(line, number, "its value is too large") from error
    if not math.isfinite(finite):
        raise _bad(line, number, "its value is not finite")
    return finite


def _bad(line: bytes, number: int, reason: str) -> StepError:
    given = line[:200].decode("utf-8", "replace").strip()
    return StepError(f"{FILE}, line {number}: {reason}; {_EXPECTED} (given: {given})")
