"""``run_if``: a condition on metrics of earlier steps and on parameters, parsed once and never handed to Python to run.

``${{ steps.evaluate.metrics.auc > parameters.threshold and not parameters.dry }}``: comparisons, ``and``, ``or``,
``not``, parentheses, ``+ - * /`` on numbers; numbers, texts in quotes, ``true`` and ``false``. A metric whose name is no
word is written ``steps.evaluate.metrics["val/auc"]``. What a condition comes to is worked out in `planning.gate`.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator

from airflow_mlpipe.definitions.conditionnodes import (
    Arithmetic,
    Comparison,
    Constant,
    Junction,
    Metric,
    Node,
    Not,
    Parameter,
    Sign,
)
from airflow_mlpipe.definitions.faults import Refused, nearest, refuse, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Kind: TypeAlias = Literal["number", "text", "truth"]
"""What a part of a condition is."""

EXAMPLE = "${{ steps.evaluate.metrics.auc > 0.9 }}"
"""What remedies show."""

_MAX_LENGTH = 2_000
_MAX_DEPTH = 50


def _normal(value: object) -> object:
    """Return a condition in its normal form."""
    if value is None:
        return None
    if not isinstance(value, str):
        message = "must be a condition"
        raise refuse(message, f"Write it as in {EXAMPLE}", value)
    return f"${{{{ {parse_condition(value)} }}}}"


RunIf = Annotated[str | None, BeforeValidator(_normal, json_schema_input_type=str | None)]
"""A field that holds a condition, in its normal form."""

_WHOLE = re.compile(r"\s*\$\{\{(.*)\}\}\s*\Z", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<quoted>'[^'\\]*'|"[^"\\]*")
    |(?<![\w.])steps\.(?P<step>[A-Za-z0-9_][A-Za-z0-9_.-]*?)\.metrics
        (?:\.(?P<metric>[A-Za-z_]\w*)|\[(?P<other>'[^'\\]+'|"[^"\\]+")\])(?![\w.\[])
    |(?<![\w.])parameters\.(?P<parameter>[A-Za-z_]\w*)(?![\w.\[(])""",
    re.VERBOSE | re.ASCII,
)
_DOTTED = re.compile(r"(?<![\w.])[A-Za-z_]\w*\.[\w.-]*[\w]")


@dataclass(frozen=True)
class Condition:
    """A condition: its text without ``${{ }}``, in parts, and what it says."""

    parts: tuple[str | Metric | Parameter, ...]
    tree: Node

    def __str__(self) -> str:
        """As it is written, without ``${{ }}``."""
        return "".join(map(str, self.parts))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that it names, each once."""
        return tuple(dict.fromkeys(part for part in self.parts if isinstance(part, Metric)))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it names, each once."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Parameter)))

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps whose metrics it names, each once."""
        return tuple(dict.fromkeys(metric.step for metric in self.metrics))

    def rewritten(self, metric: Callable[[Metric], Metric], parameter: Callable[[str], str]) -> str:
        """Return the text of a condition with other references, ``${{ }}`` around it."""
        texts = []
        for part in self.parts:
            match part:
                case Metric():
                    texts.append(str(metric(part)))
                case Parameter():
                    texts.append(parameter(part.name))
                case _:
                    texts.append(part)
        return f"${{{{ {''.join(texts)} }}}}"


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Condition:
    """Return the condition that a text stands for.

    :raises Refused: (a ValueError) if it is none; it says where, and what to write.
    """
    whole = _WHOLE.match(text)
    if whole is None:
        message = "is no condition, which stands within ${{ }}"
        raise refuse(message, f"Write it as in {EXAMPLE}", text)
    if len(text) > _MAX_LENGTH:
        message = f"is longer than {_MAX_LENGTH} characters"
        raise refuse(message, "Let a step work it out, and log what comes of it as a metric", text)
    parts = tuple(_parts(whole[1].strip()))
    _refuse_dotted(parts)
    mark = "r"
    while mark in text:
        mark += "_r"
    names = {f"{mark}{number}": part for number, part in enumerate(parts) if not isinstance(part, str)}
    source = "".join(part if isinstance(part, str) else f"{mark}{number}" for number, part in enumerate(parts))
    condition = Condition(parts, _Reader(names, text).read(source))
    check_kinds(condition, {})
    return condition


def check_kinds(condition: Condition, parameters: Mapping[str, Kind]) -> None:
    """Check that a condition comes to true or false.

    :param parameters: what the parameters are, as far as it is known.
    :raises Refused: (a ValueError) if it cannot: a text is added to a number, say.
    """
    text = f"${{{{ {condition} }}}}"
    try:
        kind = kind_of(condition.tree, parameters)
    except Refused as error:
        raise Refused([replace(fault, value=shown(text)) for fault in error.faults]) from None
    if kind not in {"truth", None}:
        message = f"comes to a {kind}, not to true or false"
        raise refuse(message, f"Compare it, as in {EXAMPLE}", text)


def both(first: str | None, second: str | None) -> str | None:
    """Return the condition that holds where two do; None stands for none."""
    if first is None or second is None:
        return first or second
    return f"${{{{ ({parse_condition(first)}) and ({parse_condition(second)}) }}}}"


def constant_text(value: float | str | bool) -> str:  # noqa: FBT001 -- a value
    """Return a value as it is written in a condition.

    :raises Refused: (a ValueError) if it cannot be: a text with both kinds of quotes, or a backslash.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return f"({value!r})"
    quote = "'" if "'" not in value else '"'
    if quote in value or "\\" in value or "\n" in value:
        message = "cannot stand in a condition: it holds a backslash, a line break, or both kinds of quotes"
        raise refuse(message, "Choose another text", value)
    return f"{quote}{value}{quote}"


def kind_of(  # noqa: PLR0911 -- one case a kind of node
    node: Node, parameters: Mapping[str, Kind] | None = None
) -> Kind | None:
    """Return what a part of a condition comes to; None where that is not known before a run.

    :param parameters: what the parameters are, as far as it is known.
    :raises Refused: (a ValueError) if it cannot come to anything: a text added to a number, say.
    """
    known = parameters or {}
    match node:
        case Metric():
            return "number"
        case Parameter():
            return known.get(node.name)
        case Constant():
            return "truth" if isinstance(node.value, bool) else "text" if isinstance(node.value, str) else "number"
        case Sign() | Not():
            wanted: Kind = "truth" if isinstance(node, Not) else "number"
            _want(wanted, "not" if isinstance(node, Not) else "-", [kind_of(node.operand, known)])
            return wanted
        case Arithmetic():
            _want("number", node.operator, [kind_of(node.left, known), kind_of(node.right, known)])
            return "number"
        case Junction():
            _want("truth", node.word, [kind_of(part, known) for part in node.parts])
            return "truth"
        case Comparison():
            return _compared(node, known)


def _compared(node: Comparison, known: Mapping[str, Kind]) -> Kind:
    kinds = [kind_of(part, known) for part in (node.first, *(part for _, part in node.rest))]
    for (operator, _), left, right in zip(node.rest, kinds, kinds[1:], strict=False):
        if left and right and left != right:
            message = f"compares a {left} with a {right}"
            raise refuse(message, "Compare numbers with numbers, texts with texts")
        if "truth" in {left, right} and operator not in {"==", "!="}:
            message = f"has {operator} between what is true or false"
            raise refuse(message, "Write ==, !=, and, or, not")
    return "truth"


def _want(wanted: Kind, word: str, given: list[Kind | None]) -> None:
    for kind in given:
        if kind not in {wanted, None}:
            message = f"has a {kind} beside {word}, which takes {'numbers' if wanted == 'number' else 'true and false'}"
            raise refuse(message, f"Write it as in {EXAMPLE}")


def _parts(inner: str) -> Iterator[str | Metric | Parameter]:
    """Yield the references of a text and what lies between them, blanks as one blank."""
    plain, end = "", 0
    for token in _TOKEN.finditer(inner):
        plain += re.sub(r"\s+", " ", inner[end : token.start()])
        end = token.end()
        if token["quoted"]:
            plain += token[0]
            continue
        if plain:
            yield plain
        plain = ""
        if token["step"]:
            yield Metric(token["step"], token["metric"] or token["other"][1:-1])
        else:
            yield Parameter(token["parameter"])
    if plain := plain + re.sub(r"\s+", " ", inner[end:]):
        yield plain


def _refuse_dotted(parts: tuple[str | Metric | Parameter, ...]) -> None:
    """Refuse what looks like a reference and is none, before Python takes it apart."""
    for part in parts:
        if isinstance(part, str) and (found := _DOTTED.search(re.sub(r"'[^']*'|\"[^\"]*\"", "''", part))):
            message = f"names {found[0]}, which means nothing in a condition"
            raise refuse(message, _meant(found[0]), found[0])


def _meant(name: str) -> str:
    head, _, rest = name.partition(".")
    near = nearest(head, ("steps", "parameters"))
    if near == "parameters" and near != head:
        return f"Did you mean parameters.{rest}?"
    if near == "steps":
        return 'Write steps.<step>.metrics.<metric>, or steps.<step>.metrics["<any name>"]'
    return "It may name steps.<step>.metrics.<metric> and parameters.<name>"


_ARITHMETIC: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARING: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_TRUTHS = {"true": True, "True": True, "false": False, "False": False}
_OTHER_WORDS = (("&&", "and"), ("||", "or"), ("!", "not"), ("=", "=="))


@dataclass(frozen=True)
class _Reader:
    """Turns Python's syntax tree into ours, and refuses all that has no place there."""

    names: Mapping[str, Metric | Parameter]
    text: str

    def read(self, source: str) -> Node:
        try:
            tree = ast.parse(source, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            message = "cannot be read as a condition"
            raise refuse(message, _remedy(source), self.text) from None
        return self._node(tree.body, 0)

    def _node(self, node: ast.expr, depth: int) -> Node:  # noqa: PLR0911 -- as above
        if depth > _MAX_DEPTH:
            message = "is nested too deeply"
            raise refuse(message, "Let a step work it out, and log what comes of it as a metric", self.text)
        below = depth + 1
        match node:
            case ast.Name(id=name):
                return self._name(name)
            case ast.Constant(value=value):
                return self._constant(value)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self._node(operand, below))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Sign(self._node(operand, below))
            case ast.BinOp(op=operator) if type(operator) in _ARITHMETIC:
                word = _ARITHMETIC[type(operator)]
                return Arithmetic(word, self._node(node.left, below), self._node(node.right, below))
            case ast.BoolOp(op=junction, values=values):
                parts = tuple(self._node(value, below) for value in values)
                return Junction("and" if isinstance(junction, ast.And) else "or", parts)
            case ast.Compare(left=left, ops=operators, comparators=others) if all(
                type(operator) in _COMPARING for operator in operators
            ):
                words = [_COMPARING[type(operator)] for operator in operators]
                rest = zip(words, (self._node(other, below) for other in others), strict=True)
                return Comparison(self._node(left, below), tuple(rest))
        raise self._refused(_WORDS.get(type(node), "something else than a comparison"))

    def _name(self, name: str) -> Node:
        if name in self.names:
            return self.names[name]
        if name in _TRUTHS:
            return Constant(_TRUTHS[name])
        message = f"names {name}, which is nothing here"
        raise refuse(message, f"Write steps.<step>.metrics.{name}, parameters.{name}, or {name!r} for a text", name)

    def _constant(self, value: object) -> Constant:
        if isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value)):
            return Constant(value)
        what = "a value that is no finite number, no text, and neither true nor false"
        raise self._refused(what)

    def _refused(self, what: str) -> Refused:
        message = f"holds {what}"
        remedy = "It may hold comparisons, and, or, not, parentheses, + - * /, metrics, parameters, numbers and texts"
        return refuse(message, remedy, self.text)


_WORDS: dict[type[ast.expr], str] = {
    ast.Call: "a call",
    ast.Attribute: "an attribute",
    ast.Subscript: "an index",
    ast.Lambda: "a function",
    ast.IfExp: "if and else",
    ast.JoinedStr: "a text with values in it",
    ast.BinOp: "an operator other than + - * /",
    ast.Compare: "a comparison other than == != < <= > >=",
}


def _remedy(source: str) -> str:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", source).replace("==", "").replace("!=", "")
    bare = bare.replace("<=", "").replace(">=", "")
    for given, word in _OTHER_WORDS:
        if given in bare:
            return f"Write {word} in place of {given}"
    return f"Write it as in {EXAMPLE}"
