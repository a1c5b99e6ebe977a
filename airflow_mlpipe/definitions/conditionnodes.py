"""What a condition is made of, once it is read: metrics and parameters, and what is said of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

_WORD = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)


@dataclass(frozen=True)
class Metric:
    """The metric of a step."""

    step: str
    name: str

    def __str__(self) -> str:
        """As it is written in a condition."""
        name = f".{self.name}" if _WORD.match(self.name) else f"[{json.dumps(self.name, ensure_ascii=False)}]"
        return f"steps.{self.step}.metrics{name}"


@dataclass(frozen=True)
class Parameter:
    """A parameter of the pipeline."""

    name: str

    def __str__(self) -> str:
        """As it is written in a condition."""
        return f"parameters.{self.name}"


@dataclass(frozen=True)
class Constant:
    """A number, a text, true or false."""

    value: float | str | bool


@dataclass(frozen=True)
class Sign:
    """``-x``."""

    operand: Node


@dataclass(frozen=True)
class Arithmetic:
    """Two numbers, and ``+``, ``-``, ``*`` or ``/``."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Comparison:
    """``a < b <= c``: the first, then each operator with what follows it."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Not:
    """``not x``."""

    operand: Node


@dataclass(frozen=True)
class Junction:
    """``a and b``, ``a or b``; parts behind the one that decides are not looked at."""

    word: Literal["and", "or"]
    parts: tuple[Node, ...]


Node: TypeAlias = "Metric | Parameter | Constant | Sign | Arithmetic | Comparison | Not | Junction"
