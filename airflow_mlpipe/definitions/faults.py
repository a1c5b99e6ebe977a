"""What is wrong with a definition, said in plain words, before it is known where in which file it stands.

A `Fault` names its place by the path of keys that leads there; whoever knows the file turns it into a
`airflow_mlpipe.exceptions.Problem`. Validators raise `Refused` with all the faults they found.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from airflow_mlpipe.exceptions import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Path: TypeAlias = "tuple[str | int, ...]"

MAX_SHOWN = 80

MISSING = "is missing"
"""What is said of a field that must be given."""


@dataclass(frozen=True)
class Fault:
    """One fault: where it is, what is wrong, what to write instead, what was given.

    ``at_key`` says that the key at the end of the path is wrong, not the value behind it. ``about`` is the path of
    something the fault misses: where that itself is broken, the fault is only a consequence and is not reported.
    ``instead`` is the key that was meant, ``better`` the value. ``of_all`` says that the fault is one of all that is
    below the path, so that it means nothing where part of that was set aside.
    """

    path: Path
    message: str
    remedy: str = ""
    value: str = ""
    at_key: bool = False
    about: Path | None = None
    instead: str | None = None
    better: str | None = None
    of_all: bool = False

    def below(self, *path: str | int) -> Fault:
        """Return the same fault seen from further outside."""
        about = None if self.about is None else (*path, *self.about)
        return replace(self, path=(*path, *self.path), about=about)

    def named_by_key(self) -> Fault:
        """Return the fault of a name as that of the key that gives it."""
        return replace(self, path=(), at_key=True) if self.path == ("name",) else self

    def problem(self, file: str = "", line: int = 0, column: int = 0) -> Problem:
        """Return the fault with its place in a file."""
        return Problem(file, line, column, where(self.path), self.message, self.remedy, self.value)


class Refused(ValueError):  # noqa: N818 -- caught here and turned into a DefinitionError; never seen outside
    """Raised by validators: everything they found wrong."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault.problem()) for fault in self.faults))


def refuse(message: str, remedy: str = "", value: object = None, path: Path = ()) -> Refused:
    """Return a `Refused` with one fault."""
    return Refused([Fault(path, message, remedy, "" if value is None else shown(value))])


def where(path: Path) -> str:
    """Return a path as people write it: ``steps.train.arguments[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: object) -> str:
    """Return a given value as it was written, short enough for a message."""
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    value = getattr(value, "text", value)
    text = value if isinstance(value, str) and value.strip() == value and value.isprintable() and value else repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


AZURE_ML: Mapping[str, str] = {
    "compute_target": "compute",
    "runconfig": "environment",
    "environment_definition": "environment",
    "params": "parameters",
    "estimator_entry_script_arguments": "arguments",
    "data_reference_name": "name",
    "output_name": "name",
    "path_on_datastore": "path",
    "is_directory": "kind",
}
"""What a field is called here, by what Azure ML calls it, where the two do not look alike enough to be guessed."""


def did_you_mean(given: object, known: Iterable[str], prefix: str = "") -> str:
    """Return the remedy for a misspelt name: the nearest known one, or all of them."""
    names = list(dict.fromkeys(known))
    near = nearest(given, names)
    if near is not None:
        return f"Did you mean {prefix}{near}?"
    if not names:
        return "None is defined here"
    return "Known: " + ", ".join(f"{prefix}{name}" for name in names)


def nearest(given: object, known: Iterable[str]) -> str | None:
    """Return the known name that is most like the given one, or None."""
    names = {name.casefold().replace("-", "_"): name for name in known}
    matches = difflib.get_close_matches(str(given).casefold().replace("-", "_"), names, n=1, cutoff=0.66)
    return names[matches[0]] if matches else None


def faults_of(error: ValidationError | Refused) -> tuple[Fault, ...]:
    """Return the faults behind what a validator raised."""
    if isinstance(error, Refused):
        return error.faults
    return tuple(fault for detail in error.errors(include_url=False) for fault in _faults_of_detail(detail))


def _faults_of_detail(detail: Mapping[str, Any]) -> Iterable[Fault]:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Refused | ValidationError):
        path = detail["loc"]
        if path[-1:] == ("[key]",):  # pydantic's word for the key of a mapping
            return (replace(fault.below(*path[:-1]), at_key=True) for fault in faults_of(cause))
        return (fault.below(*path) for fault in faults_of(cause))
    return (_plain_fault(detail),)


def _plain_fault(detail: Mapping[str, Any]) -> Fault:
    kind, path, given = detail["type"], tuple(detail["loc"]), detail["input"]
    context = detail.get("ctx", {})
    if "too_short" in kind:
        return Fault(path, "must not be empty")
    if "secrets" in path:  # never shows what was given
        return Fault(path, "must be a text that names a place in Airflow")
    if kind == "missing":
        return Fault(path, MISSING, f"Give {where(path[-1:])}")
    if kind == "literal_error":
        return _literal_fault(path, context["expected"], given)
    for beginning, words in _WORDS.items():
        if kind.startswith(beginning):
            message, remedy = words(context, given)
            return Fault(path, message, remedy, shown(given))
    return Fault(path, detail["msg"][0].lower() + detail["msg"][1:], "", shown(given))


def quoted_remedy(given: object) -> str:
    """Return what to do about a YAML value that is not the text its author meant."""
    if isinstance(given, bool):
        return "YAML reads on, off, yes, no, true and false as booleans: write it in quotes"
    if isinstance(given, int | float):
        return f'YAML reads it as a number: write it in quotes, "{getattr(given, "text", given)}"'
    if given is None:
        return "Give a text, or leave the key out"
    if hasattr(given, "isoformat"):
        return "YAML reads it as a date: write it in quotes"
    return "Give one text"


def _text(_: Mapping[str, Any], given: object) -> tuple[str, str]:
    return "must be a text", quoted_remedy(given)


def _literal_fault(path: Path, expected: str, given: object) -> Fault:
    allowed = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
    near = nearest(given, allowed)
    remedy = f"Did you mean {near}?" if near else ""
    return Fault(path, "must be one of " + ", ".join(allowed), remedy, shown(given), better=near)


def _says(message: str, remedy: str = "") -> Callable[[Mapping[str, Any], object], tuple[str, str]]:
    return lambda context, _: (message.format(**context), remedy)


_WORDS: dict[str, Callable[[Mapping[str, Any], object], tuple[str, str]]] = {
    "string_type": _text,
    "string_pattern": _says("has characters that cannot stand here", "Use letters, digits, '.', '_', '+' and '-'"),
    "int": _says("must be a whole number", "Write it without quotes and without a fraction"),
    "float": _says("must be a number", "Write it without quotes"),
    "finite_number": _says("must be a finite number"),
    "bool": _says("must be true or false", "Write it without quotes"),
    "dict": _says("must be a mapping of names to values", "Write one `name: value` a line, indented"),
    "mapping": _says("must be a mapping of names to values", "Write one `name: value` a line, indented"),
    "model": _says("must be a mapping of fields to values", "Write one `field: value` a line, indented"),
    "tuple": _says("must be a list", "Write [a, b], or one `- a` a line"),
    "list": _says("must be a list", "Write [a, b], or one `- a` a line"),
    "greater_than_equal": _says("must be at least {ge}"),
    "greater_than": _says("must be greater than {gt}"),
    "less_than_equal": _says("must be at most {le}"),
    "date": _says("must be a date or a time", "Write it as 2024-12-31 or 2024-12-31T08:00:00+00:00"),
}
