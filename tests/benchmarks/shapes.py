"""The graphs the benchmarks are made of: names of steps, and what each comes after."""

from __future__ import annotations

SHAPES = ("chain", "layers", "wide")
"""One after another; ten beside each other, each after its neighbour of the layer before; all beside each other."""

_BREADTH = 10


def upstream_of(shape: str, number: int) -> list[int]:
    """Return the numbers of the steps that a step comes after."""
    if shape == "chain":
        return [number - 1] if number else []
    if shape == "layers":
        first = number - number % _BREADTH - _BREADTH
        return [first + number % _BREADTH, first + (number + 1) % _BREADTH] if first >= 0 else []
    return []


def step_name(number: int) -> str:
    """Return the name of a step."""
    return f"step_{number:04}"
