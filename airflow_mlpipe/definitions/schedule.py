"""When a pipeline runs by itself: a cron expression or preset, an interval, or assets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.faults import Fault, Refused, did_you_mean, nearest, refuse
from airflow_mlpipe.definitions.values import Duration, duration

PRESETS = ("@once", "@continuous", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
_ASSETS_REMEDY = "Write the names or URIs of assets, joined by & and |; or {all: [...]}, or {any: [...]}"
_TOKEN = re.compile(r"""\s*(?:(?P<operator>[()&|])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s()&|"']+))""")


def asset_expression(value: object) -> str | AssetAll | AssetAny:
    """Return an asset expression: from ``a & (b | c)``, or ``{all: [...]}`` and ``{any: [...]}``.

    :raises Refused: (a ValueError) if it is neither.
    """
    match value:
        case AssetAll() | AssetAny():
            return value
        case str():
            return _Reader(value).whole()
        case Mapping() if len(value) == 1 and "all" in value:
            return build(AssetAll, dict(value))
        case Mapping() if len(value) == 1 and "any" in value:
            return build(AssetAny, dict(value))
        case _:
            message = "is not an asset expression"
            raise refuse(message, _ASSETS_REMEDY, value)


class AssetAll(Definition):
    """When each of these was updated."""

    all: Annotated[tuple[AssetExpression, ...], Field(min_length=1)]
    """Names or URIs of assets, or expressions of them."""


class AssetAny(Definition):
    """When one of these was updated."""

    any: Annotated[tuple[AssetExpression, ...], Field(min_length=1)]
    """Names or URIs of assets, or expressions of them."""


AssetExpression: TypeAlias = Annotated[str | AssetAll | AssetAny, BeforeValidator(asset_expression)]
AssetList: TypeAlias = list[AssetExpression]


_UNREADABLE = "cannot be read"
_TOO_SHORT = "is not complete"
_TOO_LONG = "has something behind its end"


class _Reader:
    """Reads ``a & (b | c)``; & binds more tightly than |."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._tokens())
        self.next = 0

    def _tokens(self) -> Any:  # noqa: ANN401 -- pairs of whether it is an operator, and its text
        end = 0
        while self.text[end:].strip():
            token = _TOKEN.match(self.text, end)
            if token is None:
                raise self._wrong(_UNREADABLE)
            end = token.end()
            yield token["operator"] is not None, next(group for group in token.groups() if group is not None)
        yield True, ""

    def _wrong(self, what: str) -> ValueError:
        return refuse(f"the asset expression {what}", _ASSETS_REMEDY, self.text)

    def whole(self) -> str | AssetAll | AssetAny:
        found = self._any()
        if self.tokens[self.next] != (True, ""):
            raise self._wrong(_TOO_LONG)
        return found

    def _any(self) -> str | AssetAll | AssetAny:
        parts = self._joined("|", self._all)
        return parts[0] if len(parts) == 1 else AssetAny.model_construct(any=tuple(parts))

    def _all(self) -> str | AssetAll | AssetAny:
        parts = self._joined("&", self._one)
        return parts[0] if len(parts) == 1 else AssetAll.model_construct(all=tuple(parts))

    def _joined(self, operator: str, part: Any) -> list[Any]:  # noqa: ANN401 -- one of the methods here
        parts = [part()]
        while self.tokens[self.next] == (True, operator):
            self.next += 1
            parts.append(part())
        return parts

    def _one(self) -> str | AssetAll | AssetAny:
        operator, text = self.tokens[self.next]
        self.next += 1
        if not operator and text:
            return str(text)
        if text == "(":
            found = self._any()
            if self.tokens[self.next] == (True, ")"):
                self.next += 1
                return found
        raise self._wrong(_TOO_SHORT)


def _assets(value: object) -> object:
    """Take a list for all of it."""
    if isinstance(value, list | tuple) and value:
        return asset_expression(value[0] if len(value) == 1 else {"all": value})
    return None if value is None else asset_expression(value)


class Schedule(Definition):
    """An interval, or the assets whose updates start a run: one of the two."""

    every: Duration | None = None
    """The time between two runs: `2 hours`, `PT2H`, or `{hours: 2}` in place of it."""
    assets: Annotated[
        str | AssetAll | AssetAny | None,
        BeforeValidator(_assets, json_schema_input_type=str | AssetAll | AssetAny | AssetList | None),
    ] = None
    """`s3://x/a & (b | c)`, a list (all of them), `{all: [...]}`, `{any: [...]}`."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow ``{hours: 2}`` and ``{all: [...]}``."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        units = {unit: data.pop(unit) for unit in _UNITS if unit in data}
        if units and "every" not in data:
            data["every"] = sum((duration(f"{amount} {unit}") for unit, amount in units.items()), timedelta())
        for key in ("all", "any"):
            if key in data and "assets" not in data:
                data["assets"] = {key: data.pop(key)}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if (self.every is None) == (self.assets is None):
            remedy = 'Write {every: "2 hours"} or {assets: "a & b"}'
            return [Fault((), "must be an interval or assets, one of the two", remedy)]
        if self.every == timedelta(0):
            return [Fault(("every",), "must be longer than nothing", "", "0 seconds")]
        return []


def schedule(value: object) -> object:
    """Return a schedule: a cron expression or preset as its text, everything else as a `Schedule`.

    :raises Refused: (a ValueError) if it is none.
    """
    match value:
        case None | Schedule():
            return value
        case timedelta():
            return build(Schedule, {"every": value})
        case str():
            return _checked_text(value.strip())
        case Mapping():
            return build(Schedule, dict(value))
        case list() | tuple():
            return build(Schedule, {"assets": value})
        case _:
            message = "is not a schedule"
            raise refuse(message, 'Write a cron expression, a preset such as "@weekly", or {every: "2 hours"}', value)


def _checked_text(text: str) -> str:
    if text.startswith("@"):
        if text not in PRESETS:
            message = "is not a preset"
            raise refuse(message, did_you_mean(text, PRESETS), text)
        return text
    wrong = _wrong_cron(text.split())
    if wrong:
        raise refuse(wrong, _cron_remedy(text), text)
    return text


def _cron_remedy(text: str) -> str:
    try:
        duration(text)
    except Refused:
        near = nearest("@" + text, PRESETS)
        return f"Did you mean {near}?" if near else 'Write minute, hour, day, month, weekday: "30 6 * * 1"'
    return f'Write an interval as {{every: "{text}"}}'


_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("weekday", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_CRON_PART = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d+))?\Z")


def _wrong_cron(fields: list[str]) -> str:
    if len(fields) != len(_CRON_FIELDS):
        return f"is not a cron expression: it has {len(fields)} fields instead of {len(_CRON_FIELDS)}"
    for text, (name, least, most, words) in zip(fields, _CRON_FIELDS, strict=True):
        for part in text.split(","):
            if not _cron_part_fits(part.lower(), least, most, words):
                return f"is not a cron expression: {text} is no {name}"
    return ""


def _cron_part_fits(part: str, least: int, most: int, words: tuple[str, ...]) -> bool:
    if part == "?" or (part == "l" and most in {7, 31}) or (most == 7 and re.match(r"[0-7](#[1-5]|l)\Z", part)):  # noqa: PLR2004
        return True
    match = _CRON_PART.match(part)
    if match is None or match[4] == "0":
        return False
    numbers = [text for text in (match[2], match[3]) if text is not None]
    return all(text in words or (text.isdigit() and least <= int(text) <= most) for text in numbers)


ScheduleField = Annotated[
    str | Schedule | None,
    BeforeValidator(schedule, json_schema_input_type=str | Schedule | AssetList | None),
]


def uses_assets(value: str | Schedule | None) -> bool:
    """Return whether assets start the runs, so that they have no logical date."""
    return isinstance(value, Schedule) and value.assets is not None
