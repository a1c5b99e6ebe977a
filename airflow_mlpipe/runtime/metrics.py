"""Reading `metrics.jsonl`: one JSON object a line, written by `mlpipe.Run.log` or by hand."""

from __future__ import annotations

import json
import math
import stat
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import MetricsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "metrics.jsonl"
_EXPECTED = 'expected {"name": "...", "value": <number>} and optionally "step": <integer>'


def read_metrics(path: Path, hide: Callable[[str], str] = str) -> dict[str, float]:
    """Return the last value of each name; empty if there is no such file.

    :param hide: takes secrets out of what is returned or complained of.
    :raises MetricsError: if a line is not a metric, naming the line; also if it is no file of its own: a link may lead to
        what only this process may read, and a pipe has no end.
    """
    metrics: dict[str, float] = {}
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return metrics
    if not stat.S_ISREG(mode):
        message = f"{FILE} is a link, a folder or a pipe; leave it the file that it was, and append to it"
        raise MetricsError(message)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                name, value = _metric(line)
            except _NoMetricError as reason:
                given = hide(line.decode("utf-8", "replace"))[:200].strip()
                message = f"{FILE}, line {number}: {reason}; {_EXPECTED} (given: {given})"
                raise MetricsError(message) from reason
            metrics[name] = value
    return {hide(name): value for name, value in metrics.items()}


class _NoMetricError(Exception):
    """Why a line is no metric."""


def _metric(line: bytes) -> tuple[str, float]:
    try:
        data = json.loads(line)
    except ValueError as error:
        reason = f"it is not JSON ({error})"
        raise _NoMetricError(reason) from error
    if not isinstance(data, dict) or not data.keys() <= {"name", "value", "step"}:
        reason = "it is not an object with these keys"
    elif not isinstance(data.get("name"), str) or not data["name"]:
        reason = "its name is not a text"
    elif not isinstance(data.get("step", 0), int):
        reason = "its step is not an integer"
    else:
        return data["name"], _finite(data.get("value"))
    raise _NoMetricError(reason)


def _finite(value: Any) -> float:  # noqa: ANN401 -- anything JSON can hold
    if isinstance(value, bool) or not isinstance(value, int | float):
        reason = "its value is not a number"
        raise _NoMetricError(reason)
    try:
        finite = float(value)
    except OverflowError as error:
        reason = "its value is too large"
        raise _NoMetricError(reason) from error
    if not math.isfinite(finite):
        reason = "its value is not finite"
        raise _NoMetricError(reason)
    return finite
