"""Conditions on what a run left: ``metrics.accuracy >= 0.9 and parameters.c < 2``. They are parsed, never run as code."""

from __future__ import annotations

import ast
import operator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.definitions.faults import nearest, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ROOTS = ("metrics", "parameters")
"""What a condition may ask for."""

MAX_LENGTH = 5000

_REMEDY = (
    "Compare metrics.<name> and parameters.<name> with numbers, texts, true, false or null by ==, !=, <, <=, >, >=, in "
    "or not in, and join with and, or, not and brackets"
)
_CONSTANTS = {"true": True, "false": False, "null": None}
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, group: value in group,
    ast.NotIn: lambda value, group: value not in group,
}

Name: TypeAlias = "tuple[str, str]"
"""``("metrics", "accuracy")``"""
Values: TypeAlias = "Mapping[str, Mapping[str, Any]]"
Ask: TypeAlias = "Callable[[Values], Any]"


class _Unanswerable(Exception):  # noqa: N818 -- never leaves this module
    """A condition that cannot be asked of some values."""


@dataclass(frozen=True)
class Predicate:
    """A condition. ``names`` are the metrics and parameters that it asks for."""

    text: str
    names: tuple[Name, ...] = field(compare=False)
    _ask: Ask = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Predicate:
        """Return the condition that a text stands for.

        :raises Refused: (a ValueError) if it is none, saying what is allowed.
        """
        names: dict[Name, None] = {}
        try:
            ask = _condition(_tree(text), names)
        except (RecursionError, MemoryError) as error:
            message = "is nested too deeply"
            raise refuse(message, "Write a simpler condition", text) from error
        return cls(text.strip(), tuple(names), ask)

    def why_not(self, values: Values) -> str | None:
        """Return why values do not fit, or None if they do.

        :param values: ``{"metrics": {...}, "parameters": {...}}``; what is not there fits nothing that asks for it.
        """
        try:
            if self._ask(values):
                return None
        except _Unanswerable as error:
            return str(error)
        return " and ".join(f"{root}.{name} is {values[root][name]!r}" for root, name in self._known(values)) or "it"

    def unknown(self, known: Iterable[Name]) -> tuple[Name, ...]:
        """Return the names that are not among the known ones."""
        there = set(known)
        return tuple(name for name in self.names if name not in there)

    def _known(self, values: Values) -> Iterable[Name]:
        return (name for name in self.names if name[1] in values[name[0]])


def _tree(text: object) -> ast.expr:
    if not isinstance(text, str):
        message = "must be a text"
        raise refuse(message, _REMEDY, text)
    if len(text) > MAX_LENGTH:
        message = f"must have at most {MAX_LENGTH} characters, this one has {len(text)}"
        raise refuse(message, value=text)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        message = f"is no condition: {getattr(error, 'msg', error)}"
        raise refuse(message, _REMEDY, text) from error


def _condition(node: ast.expr, names: dict[Name, None]) -> Ask:
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            asked = [_condition(part, names) for part in parts]
            return lambda values: all(ask(values) for ask in asked)
        case ast.BoolOp(op=ast.Or(), values=parts):
            asked = [_condition(part, names) for part in parts]
            return lambda values: any(ask(values) for ask in asked)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            denied = _condition(operand, names)
            return lambda values: not denied(values)
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _comparison([left, *others], [_comparing(op, node) for op in ops], names)
        case _:
            return _value(node, names)


def _comparing(op: ast.cmpop, node: ast.expr) -> Callable[[Any, Any], bool]:
    if type(op) not in _COMPARISONS:
        raise _refused(node)
    return _COMPARISONS[type(op)]


def _comparison(parts: list[ast.expr], by: list[Callable[[Any, Any], bool]], names: dict[Name, None]) -> Ask:
    """Return a comparison, also a chain of them: ``0.5 < metrics.auc < 0.9``."""
    asked = [_value(part, names) for part in parts]

    def ask(values: Values) -> bool:
        given = [each(values) for each in asked]
        try:
            return all(compare(*pair) for compare, pair in zip(by, pairwise(given), strict=True))
        except TypeError as error:
            shown = " and ".join(map(repr, given))
            message = f"{shown} cannot be compared so"
            raise _Unanswerable(message) from error

    return ask


def _value(node: ast.expr, names: dict[Name, None]) -> Ask:
    match node:
        case ast.Attribute(value=ast.Name(id=root), attr=name) if root in ROOTS:
            return _asked_for((root, name), names)
        case ast.Subscript(value=ast.Name(id=root), slice=ast.Constant(value=str(name))) if root in ROOTS:
            return _asked_for((root, name), names)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            asked = [_value(item, names) for item in items]
            return lambda values: [ask(values) for ask in asked]
        case _:
            constant = _constant(node)
            return lambda _: constant


def _asked_for(name: Name, names: dict[Name, None]) -> Ask:
    names[name] = None
    root, key = name

    def ask(values: Values) -> Any:  # noqa: ANN401 -- whatever a metric or parameter is
        if key not in values[root]:
            message = f"it has no {root}.{key}"
            raise _Unanswerable(message)
        return values[root][key]

    return ask


def _constant(node: ast.expr) -> str | float | bool | None:
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case _:
            raise _refused(node)


def _refused(node: ast.expr) -> ValueError:
    text = ast.unparse(node)
    match node:
        case ast.Name(id=name):
            message = "is neither a metric nor a parameter"
            return refuse(message, f"Write metrics.{name}, parameters.{name}, or the text '{name}' in quotes", text)
        case ast.Attribute(value=ast.Name(id=root), attr=name) if near := nearest(root, ROOTS):
            message = "is neither a metric nor a parameter"
            return refuse(message, f"Did you mean {near}.{name}?", text)
        case _:
            message = "cannot stand in a condition"
            return refuse(message, _REMEDY, text)
