"""``${{ ... }}``: what may stand inside, parsed once.

A text is a tuple of literal parts and of `Ref`. Nothing else is ever evaluated, and nothing of it reaches Jinja.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_mlpipe.definitions.faults import Fault, Path, Refused, did_you_mean, nearest, refuse, shown

if TYPE_CHECKING:
    from collections.abc import Callable

RefKind: TypeAlias = Literal["parameters", "inputs", "outputs", "steps", "run"]

RUN_FIELDS = ("logical_date", "data_interval_start", "data_interval_end", "run_after")

ALLOWED = (
    "${{ parameters.<name> }}, ${{ inputs.<name> }}, ${{ outputs.<name> }}, ${{ steps.<step>.outputs.<name> }}, "
    + ", ".join(f"${{{{ run.{name} }}}}" for name in RUN_FIELDS)
)

_EXPRESSION = re.compile(r"\$\{\{(.*?)(\}\}|\Z)", re.DOTALL)
_SIMPLE = re.compile(r"(parameters|inputs|outputs|run)\.([A-Za-z_][A-Za-z0-9_]*)\Z")
_STEP = re.compile(r"steps\.([A-Za-z0-9_][A-Za-z0-9_.-]*)\.outputs\.([A-Za-z_][A-Za-z0-9_]*)\Z")


@dataclass(frozen=True)
class Ref:
    """One reference: ``kind`` is the word it begins with, ``step`` is set for ``steps.<step>.outputs.<name>``."""

    kind: RefKind
    name: str
    step: str = ""

    def __str__(self) -> str:
        """As it is written in a definition."""
        inner = f"steps.{self.step}.outputs.{self.name}" if self.kind == "steps" else f"{self.kind}.{self.name}"
        return f"${{{{ {inner} }}}}"


Text: TypeAlias = "tuple[str | Ref, ...]"
"""Literal parts and references, joined without a separator."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Text:
    """Return the parts of a text.

    :raises Refused: (a ValueError) if something else than a known reference stands inside ``${{ }}``.
    """
    if "${{" not in text:
        return (text,) if text else ()
    parts: list[str | Ref] = []
    end = 0
    for match in _EXPRESSION.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        if not match[2]:
            message = "an expression is not closed"
            raise refuse(message, "Write }} after it", text)
        parts.append(_ref(match[1].strip()))
        end = match.end()
    return (*parts, text[end:]) if end < len(text) else tuple(parts)


def refs(text: str) -> tuple[Ref, ...]:
    """Return the references of a text, in order."""
    return tuple(part for part in parse(text) if isinstance(part, Ref))


VALUES = ("parameters", "run")
"""The kinds of references that stand for values, not for places in a step directory."""


def misplaced(text: str, path: Path, allowed: tuple[str, ...]) -> list[Fault]:
    """Return what of a text is no expression, or none that may stand there."""
    try:
        found = refs(text)
    except Refused as error:
        return [fault.below(*path) for fault in error.faults]
    return [
        Fault(path, "holds an expression that has no meaning there", _elsewhere(ref, allowed), str(ref))
        for ref in found
        if ref.kind not in allowed
    ]


def _elsewhere(ref: Ref, allowed: tuple[str, ...]) -> str:
    if ref.kind == "steps" and "inputs" in allowed:
        return f"Declare an input, inputs: {{{ref.name}: {str(ref)!r}}}, and write ${{{{ inputs.{ref.name} }}}}"
    return "It may hold " + ", ".join(f"${{{{ {kind}.<name> }}}}" for kind in allowed)


def substitute(text: str, replaced: Callable[[Ref], str]) -> str:
    """Return a text with each reference replaced."""
    return "".join(part if isinstance(part, str) else replaced(part) for part in parse(text))


def _ref(inner: str) -> Ref:
    if step := _STEP.match(inner):
        return Ref("steps", step[2], step[1])
    simple = _SIMPLE.match(inner)
    if simple and (simple[1] != "run" or simple[2] in RUN_FIELDS):
        return Ref(simple[1], simple[2])  # type: ignore[arg-type] # the pattern allows no other
    message = "this expression means nothing here"
    raise refuse(message, _remedy(inner), "${{ " + inner + " }}")


def _remedy(inner: str) -> str:
    head, _, rest = inner.partition(".")
    if head == "run" and rest in {"run_id", "id"}:
        return "The id differs in each run, so a step that used it could never be reused; use run.run_after"
    if head == "run" and rest:
        return did_you_mean(rest, RUN_FIELDS, "run.")
    near = nearest(head, ("parameters", "inputs", "outputs", "steps", "run"))
    if near == "steps":
        return "Write ${{ steps.<step>.outputs.<output> }}"
    if near and near != head:
        return f"Did you mean {near}.{rest}?"
    return f"Allowed are {ALLOWED}"


def shell_text(command: str) -> str:
    """Return a shell command whose references are shell variables, so that no value is ever read as shell syntax.

    ``${{ inputs.raw }}`` becomes ``"${MLPIPE_INPUT_RAW}"``; within double quotes the quotes are left out, within
    single quotes these are closed around it. Where the command has a here-document, quoting is the author's.
    """
    shell = _Shell(quote="plain" if "<<" in command else "")
    return "".join(shell.literal(part) if isinstance(part, str) else shell.variable(part) for part in parse(command))


@dataclass
class _Shell:
    """Which quotes are open while a command is read from left to right."""

    quote: str
    comment: bool = False

    def literal(self, text: str) -> str:
        index = 0
        while self.quote != "plain" and index < len(text):
            index += self._step(text, index)
        return text

    def _step(self, text: str, index: int) -> int:
        char = text[index]
        if self.comment:
            self.comment = char != "\n"
        elif char == "\\" and self.quote != "'":
            return 2
        elif self.quote:
            self.quote = "" if char == self.quote else self.quote
        elif char in "'\"":
            self.quote = char
        elif char == "#" and (index == 0 or text[index - 1].isspace()):
            self.comment = True
        return 1

    def variable(self, ref: Ref) -> str:
        variable = "${" + shell_variable(ref) + "}"
        around = {"": '"{}"', "'": "'\"{}\"'"}.get(self.quote, "{}")
        return around.format(variable) if not self.comment else variable


def shell_variable(ref: Ref) -> str:
    """Return the environment variable that holds what a reference stands for, without ``$``.

    :raises ValueError: for the output of another step, which a step reads through an input.
    """
    words = {"parameters": "PARAMETER", "inputs": "INPUT", "outputs": "OUTPUT", "run": "RUN"}
    if ref.kind not in words:
        message = f"{shown(str(ref))} has no variable: declare it as an input of the step"
        raise ValueError(message)
    return f"MLPIPE_{words[ref.kind]}_{ref.name.upper()}"
