"""Kinds of values that many definitions share: names, durations, moments, paths."""

from __future__ import annotations

import math
import posixpath
import re
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt

from airflow_mlpipe.definitions.faults import nearest, refuse
from airflow_mlpipe.naming import check_port_name, check_step_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Scalar: TypeAlias = str | int | float | bool
"""The typed value of a parameter."""


def _named(check: Callable[[str], str | None]) -> Callable[[str], str]:
    def validate(name: str) -> str:
        wrong = check(name)
        if wrong is None:
            return name
        raise refuse(wrong, value=name)

    return validate


_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\Z")


def _dotted(text: str) -> str:
    if not _DOTTED.match(text):
        message = "must be the dotted name of a function"
        raise refuse(message, "Write module.function", text)
    return text


_UNITS = {
    "week": timedelta(weeks=1),
    "day": timedelta(days=1),
    "hour": timedelta(hours=1),
    "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1),
}
_SHORT = {"w": "week", "d": "day", "h": "hour", "m": "minute", "min": "minute", "s": "second", "sec": "second"}
_WORDS = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*,?\s*")
_ISO = re.compile(
    r"P(?:(?P<week>\d+)W)?(?:(?P<day>\d+)D)?"
    r"(?:T(?:(?P<hour>\d+)H)?(?:(?P<minute>\d+)M)?(?:(?P<second>\d+(?:\.\d+)?)S)?)?\Z"
)
_CLOCK = re.compile(r"(?P<hour>\d+):(?P<minute>[0-5]\d):(?P<second>[0-5]\d)\Z")
_DURATION_REMEDY = 'Write a number of seconds, or a text such as "2 hours", "1h 30m", "PT2H" or "02:00:00"'


def duration(value: object) -> timedelta:
    """Return a duration: from a `timedelta`, seconds, words (``2 hours``), ISO 8601 (``PT2H``) or ``HH:MM:SS``.

    :raises Refused: (a ValueError) if it is none of these, or negative.
    """
    try:
        found = _duration(value)
    except OverflowError:
        found = None
    if found is None or found < timedelta(0):
        message = "is not a duration"
        raise refuse(message, _DURATION_REMEDY, value)
    return found


def _duration(value: object) -> timedelta | None:
    match value:
        case timedelta():
            return value
        case bool():
            return None
        case int() | float():
            return timedelta(seconds=value) if value == value else None  # noqa: PLR0124 -- NaN
        case str():
            return _duration_of_text(value.strip())
        case _:
            return None


def _duration_of_text(text: str) -> timedelta | None:
    found = _ISO.match(text) or _CLOCK.match(text)
    if found:
        given = {unit: amount for unit, amount in found.groupdict().items() if amount}
        return _sum((amount, unit) for unit, amount in given.items()) if given else None
    words = [(amount, _unit(unit)) for amount, unit in _WORDS.findall(text)]
    if not words or _WORDS.sub("", text) or any(unit is None for _, unit in words):
        return None
    return _sum(words)


def _unit(word: str) -> str | None:
    unit = _SHORT.get(word) or word.removesuffix("s")
    return unit if unit in _UNITS else None


def _sum(amounts: Iterable[tuple[str, str | None]]) -> timedelta:
    """Add up amounts of units, exactly."""
    step = timedelta(microseconds=1)
    return step * round(sum(Fraction(amount) * (_UNITS[str(unit)] // step) for amount, unit in amounts))


def duration_text(value: timedelta) -> str:
    """Return a text that `duration` reads back as the same duration."""
    for unit, length in _UNITS.items():
        if value and value % length == timedelta(0):
            count = value // length
            return f"{count} {unit}" + ("s" if count != 1 else "")
    seconds = value.days * 86400 + value.seconds
    return f"PT{seconds}.{value.microseconds:06d}S" if value.microseconds else "0 seconds"


def _moment(value: object) -> object:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if isinstance(value, bool | int | float):
        message = "must be a date or a time"
        raise refuse(message, "Write it as 2024-12-31 or 2024-12-31T08:00:00+00:00", value)
    return value


def _aware(value: datetime) -> datetime:
    return value.astimezone(timezone.utc) if value.tzinfo else value.replace(tzinfo=timezone.utc)


def climbs(path: str) -> bool:
    """Return whether a path leads out of the folder it is relative to."""
    return posixpath.normpath(path.lstrip("/")).split("/")[0] == ".."


def is_empty(path: str) -> bool:
    """Return whether a path names nothing below the folder it is relative to."""
    return posixpath.normpath(path.lstrip("/")) == "."


def _inside(path: str) -> str:
    message = ""
    if not path:
        message = "must not be empty"
    elif path.startswith("/") or re.match(r"[A-Za-z]:[\\/]", path):
        message = "must be relative, not absolute"
    elif climbs(path):
        message = "must not lead out of its folder"
    if message:
        raise refuse(message, "Give a path below the folder it is relative to", path)
    return path


def _scalar(value: object) -> object:
    """Return a scalar; a number that remembers how YAML wrote it becomes plain again."""
    match value:
        case bool() | str():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case float():
            message = "must be a finite number"
        case None:
            message = "is empty"
        case _:
            message = "must be a text, a number, true or false"
    raise refuse(message, "Give one value, in quotes where it is a text", value)


_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!_-]*(\.\*)?\Z")


def _version(value: object) -> object:
    value = _argument(value)
    if value is not None and not (isinstance(value, str) and _VERSION.match(value)):
        message = "is no version"
        raise refuse(message, "Write its numbers alone, in quotes, such as '1.7.2'", value)
    return value


def _argument(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return getattr(value, "text", str(value))


StepName = Annotated[str, AfterValidator(_named(check_step_name))]
PortName = Annotated[str, AfterValidator(_named(check_port_name))]
DottedName = Annotated[str, AfterValidator(_dotted)]
Duration = Annotated[timedelta, BeforeValidator(duration, json_schema_input_type=str | int | float)]
Moment = Annotated[datetime, BeforeValidator(_moment), AfterValidator(_aware)]
InsidePath = Annotated[str, AfterValidator(_inside)]
Count = Annotated[StrictInt, Field(ge=0)]
Value = Annotated[Scalar, BeforeValidator(_scalar)]
VersionField = Annotated[str | None, BeforeValidator(_version, json_schema_input_type=str | int | float | None)]
"""The version of a package; a number is taken as it is written."""
Argument = Annotated[str, BeforeValidator(_argument, json_schema_input_type=str | int | float)]
"""One element of a command line; a number is taken as it is written."""


def one_of(value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of the allowed words, naming the nearest."""
    if value not in allowed:
        near = nearest(value, allowed)
        message = "must be one of " + ", ".join(allowed)
        raise refuse(message, f"Did you mean {near}?" if near else "", value)
