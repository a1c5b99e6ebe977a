"""`Sweep`: a step that runs once for each of many sets of parameters, and is the best of these."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.expressions import refs
from airflow_mlpipe.definitions.faults import Fault, Path, refuse, shown
from airflow_mlpipe.definitions.values import Count, PortName, Scalar, Value

if TYPE_CHECKING:
    from airflow_mlpipe.definitions.stepbase import StepBase

TABLE = "trials"
"""The XCom with the table of the trials; no output of a sweep may have this name."""

MAX_TRIALS = 100_000
"""How many trials a sweep may have."""

_DIGITS = 6
"""Digits of a number that is drawn: enough to search, few enough to be the same on every machine, and to be read."""


_DRAWS = 1000
"""How often a point is drawn for each that is wanted."""


_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+\Z")


def _number(value: object) -> object:
    """Return the number that a text such as `1e-4` stands for, which YAML 1.1 reads as a text; all else as it is."""
    return float(value) if isinstance(value, str) and _EXPONENT.match(value) else value


class Range(Definition):
    """The numbers from a minimum to a maximum, both included; whole ones where both are written as such."""

    minimum: StrictInt | StrictFloat
    """The least number."""
    maximum: StrictInt | StrictFloat
    """The greatest number."""
    log: StrictBool = False
    """Whether each order of magnitude is as likely as any other."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Take `1e-4` for a number."""
        return {name: _number(item) for name, item in data.items()} if isinstance(data, Mapping) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        for name in ("minimum", "maximum"):
            if not math.isfinite(getattr(self, name)):
                yield Fault((name,), "must be a finite number", "", shown(getattr(self, name)))
        if not self.minimum < self.maximum:
            yield Fault(("minimum",), f"must be less than the maximum, {self.maximum:g}", "", f"{self.minimum:g}")
        if self.log and self.minimum <= 0:
            remedy = "Give a minimum above 0, or leave log out"
            yield Fault(("minimum",), "must be greater than 0 where log is true", remedy, f"{self.minimum:g}")

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole ones."""
        return isinstance(self.minimum, int) and isinstance(self.maximum, int)

    def at(self, share: float) -> float:
        """Return the number at a share, 0 to below 1, of the way from the minimum to the maximum."""
        low, high = float(self.minimum), float(self.maximum)
        if self.is_whole:  # each whole number is as likely as the others
            low, high = (low, high + 1) if not self.log else (max(low - 0.5, low / 2), high + 0.5)
        value = (
            math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
            if self.log
            else low + share * (high - low)
        )
        if self.is_whole:
            number = math.floor(value) if not self.log else round(value)
            return int(min(max(number, self.minimum), self.maximum))
        return min(max(float(f"{value:.{_DIGITS}g}"), float(self.minimum)), float(self.maximum))

    @property
    def count(self) -> float:
        """How many numbers there are."""
        return self.maximum - self.minimum + 1 if self.is_whole else math.inf


class Objective(Definition):
    """What makes one trial better than another."""

    metric: Annotated[StrictStr, Field(min_length=1)]
    """The name of the metric, as the script logs it."""
    goal: Literal["maximize", "minimize"]
    """Whether the greatest or the least value is the best."""


def _space(value: object) -> object:
    """Return one parameter's values: a list of them, or a range."""
    if isinstance(value, Range):
        return value
    if isinstance(value, Mapping):
        return build(Range, value)
    if not isinstance(value, list | tuple):
        message = "must be a list of values, or a range"
        raise refuse(message, "Write [0.1, 1.0], or {minimum: 0.1, maximum: 1.0}", value)
    return _numbers(tuple(value))


def _numbers(values: tuple[object, ...]) -> tuple[object, ...]:
    """Return values of one type: a list that holds one number with a fraction is a list of such numbers."""
    values = tuple(_number(item) for item in values)
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in values)
    if numbers and any(isinstance(item, float) for item in values):
        return tuple(float(item) for item in values)  # type: ignore[arg-type] # numbers
    return values


Space = Annotated[
    tuple[Value, ...] | Range, BeforeValidator(_space, json_schema_input_type=list[str | int | float | bool] | Range)
]


class Sweep(Definition):
    """The sets of parameters that a step is tried with."""

    parameters: dict[PortName, Space]
    """For each parameter the values to try: a list of them, or, for random sampling, a range."""
    sampling: Literal["grid", "random"] = "grid"
    """Whether every combination is tried, or as many as `max_trials` that are drawn."""
    max_trials: Annotated[StrictInt, Field(ge=1, le=MAX_TRIALS)] | None = None
    """How many trials there are at most."""
    max_concurrent: Annotated[StrictInt, Field(ge=1)] | None = None
    """How many trials may run side by side."""
    seed: StrictInt = 0
    """What random sampling begins with: the same seed draws the same trials."""
    objective: Objective
    """What makes a trial the best."""
    max_failed: Count = 0
    """How many trials may fail."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if not self.parameters:
            yield Fault(("parameters",), "is empty", "Give at least one parameter with the values to try")
            return
        faults = list(self._space_faults())
        yield from faults
        if faults:
            return
        if self.sampling == "random" and self.max_trials is None:
            yield Fault(("max_trials",), "is missing", "Say how many trials random sampling shall draw")
        limit = self.max_trials or MAX_TRIALS
        if self.sampling == "grid" and self._points > limit:
            remedy = "Raise it, give fewer values, or write sampling: random to try only some"
            yield Fault(("max_trials",), f"is less than the {self._points:.0f} points of the grid", remedy, str(limit))

    def _space_faults(self) -> Iterator[Fault]:
        for name, space in self.parameters.items():
            path: Path = ("parameters", name)
            if isinstance(space, Range):
                if self.sampling == "grid":
                    remedy = "Give a list of values, or write sampling: random"
                    yield Fault(path, "is a range, which has no end of values for a grid", remedy)
                continue
            if not space:
                yield Fault(path, "is empty", "Give at least one value")
            for index, value in enumerate(space):
                if any(_same(value, other) for other in space[:index]):
                    yield Fault((*path, index), "is there twice", "Leave it out", shown(value))
                if isinstance(value, str) and refs(value):
                    remedy = "Write the value itself; random sampling and lists know no expressions"
                    yield Fault((*path, index), "must not hold an expression", remedy, shown(value))

    @property
    def _points(self) -> float:
        """How many sets of parameters there are."""
        return math.prod(len(space) if isinstance(space, tuple) else space.count for space in self.parameters.values())

    @cached_property
    def trials(self) -> tuple[dict[str, Scalar], ...]:
        """The sets of parameters to try, all different; the last parameter changes first.

        Those that are drawn are the first ones of more that would be drawn with the same seed.
        """
        lists = [space for space in self.parameters.values() if isinstance(space, tuple)]
        whole = len(lists) == len(self.parameters) and self._points <= (self.max_trials or MAX_TRIALS)
        if self.sampling == "grid" or whole:
            return tuple(dict(zip(self.parameters, point, strict=True)) for point in product(*lists))
        return tuple(self._drawn(int(min(self.max_trials or 1, self._points))))

    def _drawn(self, count: int) -> Iterator[dict[str, Scalar]]:
        """Yield different points; each parameter has numbers of its own, so their order says nothing."""
        streams = {name: Random(f"{self.seed}:{name}") for name in self.parameters}  # noqa: S311 -- no secret
        seen: set[tuple[tuple[type, Scalar], ...]] = set()
        draws = 0
        while len(seen) < count and draws < _DRAWS * count:  # a narrow range may have fewer numbers than trials
            draws += 1
            point = {name: _at(space, streams[name].random()) for name, space in self.parameters.items()}
            key = tuple((type(value), value) for value in point.values())
            if key not in seen:
                seen.add(key)
                yield point


def _at(space: tuple[Scalar, ...] | Range, share: float) -> Scalar:
    return space.at(share) if isinstance(space, Range) else space[int(share * len(space))]


def _same(value: Scalar, other: Scalar) -> bool:
    return type(value) is type(other) and value == other


def _sweep(value: object) -> Any:  # noqa: ANN401 -- a validator
    return value if value is None or isinstance(value, Sweep) else build(Sweep, value)


SweepField = Annotated[Sweep | None, BeforeValidator(_sweep, json_schema_input_type=Sweep | None)]


def sweep_of(step: StepBase) -> Sweep | None:
    """Return the sweep of a step; None if it has none, or is of a kind that has none."""
    return getattr(step, "sweep", None)


def swept(step: StepBase) -> tuple[str, ...]:
    """Return the parameters that a step is tried with."""
    sweep = sweep_of(step)
    return tuple(sweep.parameters) if sweep else ()


def sweep_faults(step: Any) -> Iterator[Fault]:  # noqa: ANN401 -- a step with a sweep
    """Yield what of a step does not go together with its sweep."""
    sweep: Sweep | None = step.sweep
    if sweep is None:
        return
    if not step.outputs:
        remedy = "Declare what a trial leaves: outputs: [model]"
        yield Fault(("outputs",), "is missing: the outputs of the best trial are those of the sweep", remedy)
    if TABLE in step.outputs:
        message = "is the name under which a sweep leaves the table of its trials"
        yield Fault(("outputs", TABLE), message, "Choose another name", TABLE, at_key=True)
    own = {name.casefold(): name for name in step.parameters}
    for name in sweep.parameters:
        if (earlier := own.setdefault(name.casefold(), name)) != name or name in step.parameters:
            message = f"is given by parameters.{earlier} too"
            path = ("sweep", "parameters", name)
            yield Fault(path, message, "Leave it out of parameters; the sweep sets it", shown(name), at_key=True)
    for path, ref in step.references():
        if ref.kind == "parameters" and ref.name in sweep.parameters and path[0] in _BOUND_ONCE:
            remedy = f"Hand it to the script: it is ${{{{ parameters.{ref.name} }}}} in arguments, and "
            remedy += f"MLPIPE_PARAMETER_{ref.name.upper()}"
            yield Fault(path, "names a parameter of the sweep, which differs from trial to trial", remedy, str(ref))


_BOUND_ONCE = {
    *("environment", "inputs", "outputs", "parameters"),
    *("distribution", "node_count", "process_count_per_node", "options"),
}
"""Where a parameter has one value for all trials."""
