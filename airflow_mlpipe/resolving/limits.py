"""Times and sizes as people write them in a policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.values import duration
from airflow_mlpipe.exceptions import MlpipeError

if TYPE_CHECKING:
    from datetime import timedelta

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*\Z", re.IGNORECASE)
_SECONDS = re.compile(r"\s*\d+(?:\.\d+)?\s*\Z")


def read_duration(name: str, text: str) -> timedelta:
    """Return the time that a text such as ``30d``, ``12 hours`` or ``0`` stands for.

    :param name: how the user calls it.
    :raises MlpipeError: if it stands for none.
    """
    try:
        return duration(float(text) if _SECONDS.match(text) else text)
    except ValueError:
        message = f"{name} must be a duration such as 30d, 12h or 0, given: {text!r}"
        raise MlpipeError(message) from None


def read_size(name: str, text: str) -> int:
    """Return the bytes that a text such as ``500GB`` stands for.

    :param name: how the user calls it.
    :raises MlpipeError: if it stands for none.
    """
    if match := _SIZE.match(text):
        return round(float(match[1]) * _UNITS[match[2].lower()])
    message = f"{name} must be a size such as 500GB or 20 MB, given: {text!r}"
    raise MlpipeError(message)
