"""What was measured side by side, and how it is shown."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ROUNDS = 5
SLOW = 20.0
"""Seconds from which something is measured three times instead of five."""

_SLOW_ROUNDS = 3

Measure: TypeAlias = "Callable[[], float]"
"""Does something once and returns the seconds it took, without those that preparing it took."""


@dataclass(frozen=True)
class Times:
    """The seconds of one thing, once a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def __str__(self) -> str:
        low, high = min(self.seconds), max(self.seconds)
        return f"{_short(self.median)} ({_short(low)}-{_short(high)})"


@dataclass(frozen=True)
class Target:
    """How our time must relate to the other: ``faster`` wants other/ours of at least ``bound``,
    ``within`` wants ours/other of at most ``bound``, ``under`` wants ours below ``bound`` seconds."""

    kind: str
    bound: float

    def shown(self) -> str:
        return {
            "faster": f">= {self.bound:g}x faster",
            "within": f"<= {self.bound:g}x",
            "under": f"< {self.bound:g} s",
        }[self.kind]

    def reached(self, ours: float, other: float | None) -> tuple[str, bool]:
        if self.kind == "under" or other is None:
            return "", ours < self.bound
        ratio = other / ours if self.kind == "faster" else ours / other
        return f"{ratio:.2f}x", ratio >= self.bound if self.kind == "faster" else ratio <= self.bound


@dataclass(frozen=True)
class Row:
    """One comparison; without a target it is told for information."""

    what: str
    ours: Times
    against: str = ""
    other: Times | None = None
    target: Target | None = None

    def cells(self) -> tuple[str, ...]:
        other = self.other.median if self.other else None
        ratio = f"{self.ours.median / other:.2f}x" if other else ""
        met = ""
        if self.target:
            measured, reached = self.target.reached(self.ours.median, other)
            ratio, met = measured or ratio, "yes" if reached else "NO"
        shown = self.target.shown() if self.target else ""
        rounds = str(len(self.ours.seconds))
        return self.what, str(self.ours), self.against, str(self.other or ""), ratio, shown, met, rounds


HEADER = ("what", "ours, s", "against", "other, s", "ratio", "target", "met", "rounds")


def format_table(rows: list[Row]) -> str:
    """Return rows as aligned text: medians, the least and the most in brackets."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([texts[0], "  ".join("-" * width for width in widths), *texts[1:]])


def side_by_side(things: Mapping[str, Measure]) -> dict[str, Times]:
    """Measure several things in turn, round after round, so that what disturbs one disturbs all."""
    seconds: dict[str, list[float]] = {name: [] for name in things}
    rounds = ROUNDS
    done = 0
    while done < rounds:
        for name, measure in things.items():
            seconds[name].append(measure())
        done += 1
        if any(max(taken) > SLOW for taken in seconds.values()):
            rounds = _SLOW_ROUNDS
    return {name: Times(tuple(taken)) for name, taken in seconds.items()}


def timed(action: Callable[[], object]) -> Measure:
    """Return a measure of a function of this process."""

    def measure() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return measure


def told(program: str, *arguments: Path | str, cwd: Path | None = None) -> float:
    """Run a Python program in a process of its own; return the number in the last line it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        message = f"{done.stdout}\n{done.stderr}"
        raise RuntimeError(message)
    return float(done.stdout.strip().splitlines()[-1])


def _short(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 1 else f"{seconds:.2f}"
