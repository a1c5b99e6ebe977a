"""Whether a step runs: what its ``run_if`` comes to in a run. Pure; it never counts for the fingerprint (rule 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

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
from airflow_mlpipe.definitions.conditions import parse_condition
from airflow_mlpipe.exceptions import ConditionError
from airflow_mlpipe.planning.explain import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.runtime.protocol import Scalar

    MetricsOf: TypeAlias = Callable[[str], Mapping[str, float]]
    """Returns the metrics that a step logged in this run, or in the one it was reused from.

    It raises `UndecidedError` if the step has not had its turn, `NotThereError` if it did not run.
    """

RUN_IF = "run_if"
"""The component of the reason that says which condition kept a step from running."""

UPSTREAM = "upstream"
"""The component of the reason that says which step kept this one from running."""


class UndecidedError(Exception):
    """A condition names a metric of a step that has not had its turn."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


class NotThereError(Exception):
    """A condition names a metric of a step that was not run, and left none."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@dataclass(frozen=True)
class Gate:
    """The condition of a step, and the values of the parameters that it names."""

    run_if: str
    parameters: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps whose metrics it names."""
        return parse_condition(self.run_if).steps

    def closed(self, metrics_of: MetricsOf) -> Reason | None:
        """Return why the step does not run, or None if it does.

        :raises UndecidedError: if it needs a metric of a step that has not had its turn.
        :raises ConditionError: if a metric that it needs was not logged, or what it says cannot be worked out.
        """
        condition = parse_condition(self.run_if)
        look = _Look(self.parameters, metrics_of, {})
        try:
            holds = look.truth(condition.tree)
        except NotThereError as missing:
            return Reason(UPSTREAM, f"{missing.step}, whose metrics its condition names, was not run")
        except ConditionError as error:
            message = f"run_if: {condition}: {error}"
            raise ConditionError(message) from None
        return None if holds else Reason(RUN_IF, f"{condition} is false{look.said()}")


@dataclass
class _Look:
    """Works out a condition, and remembers what it has looked at."""

    parameters: Mapping[str, Scalar]
    metrics_of: MetricsOf
    seen: dict[Metric | Parameter, Scalar]

    def said(self) -> str:
        """Return the values that were looked at: ``: auc is 0.83, threshold is 0.9``."""
        names = [reference.name for reference in self.seen]
        words = (
            f"{ref if names.count(ref.name) > 1 else ref.name} is {_shown(value)}" for ref, value in self.seen.items()
        )
        told = ", ".join(words)
        return f": {told}" if told else ""

    def value(self, node: Node) -> Scalar:  # noqa: PLR0911 -- one case a kind of node
        match node:
            case Constant():
                return node.value
            case Parameter():
                self.seen[node] = self.parameters[node.name]
                return self.seen[node]
            case Metric():
                self.seen[node] = _metric(node, self.metrics_of(node.step))
                return self.seen[node]
            case Sign():
                return -self.number(node.operand)
            case Arithmetic():
                return _worked_out(node.operator, self.number(node.left), self.number(node.right))
            case Comparison():
                return self._compared(node)
            case Not():
                return not self.truth(node.operand)
            case Junction():
                decides = node.word == "or"
                return decides if any(self.truth(part) is decides for part in node.parts) else not decides

    def truth(self, node: Node) -> bool:
        value = self.value(node)
        if isinstance(value, bool):
            return value
        raise self._odd(node, value, "is neither true nor false; compare it with something")

    def number(self, node: Node) -> float:
        value = self.value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._odd(node, value, "is no number")
        return value

    def _odd(self, node: Node, value: Scalar, what: str) -> ConditionError:
        named = f"{node}, {_shown(value)}," if isinstance(node, Metric | Parameter) else _shown(value)
        return ConditionError(f"{named} {what}")

    def _compared(self, node: Comparison) -> bool:
        left = self.value(node.first)
        for operator, other in node.rest:
            right = self.value(other)
            if not _holds(operator, left, right):
                return False
            left = right
        return True


def _metric(metric: Metric, logged: Mapping[str, float]) -> float:
    if metric.name not in logged:
        has = ", ".join(sorted(logged)) or "none"
        message = (
            f"{metric.step} logged no metric {metric.name!r}; it logged: {has}. "
            f'Log it in {metric.step}, as in Run.get_context().log("{metric.name}", value), or correct the condition'
        )
        raise ConditionError(message)
    value = logged[metric.name]
    if not math.isfinite(value):
        message = f"{metric} is {value!r}, which is neither more nor less than anything: log a finite number"
        raise ConditionError(message)
    return value


def _worked_out(operator: str, left: float, right: float) -> float:
    try:
        match operator:
            case "+":
                result = left + right
            case "-":
                result = left - right
            case "*":
                result = left * right
            case _:
                result = left / right
        finite = math.isfinite(result)
    except (ZeroDivisionError, OverflowError):
        finite, result = False, 0
    if not finite:
        message = f"{left!r} {operator} {right!r} is no finite number"
        raise ConditionError(message)
    return result


def _holds(operator: str, left: Scalar, right: Scalar) -> bool:
    kinds = {_kind(left), _kind(right)}
    if len(kinds) > 1 or (operator not in {"==", "!="} and kinds & {"truth", "nothing"}):
        message = (
            f"{_shown(left)} {operator} {_shown(right)} has no meaning: compare numbers with numbers, texts with texts"
        )
        raise ConditionError(message)
    compared: dict[str, Callable[[], bool]] = {
        "==": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,  # type: ignore[operator] # they are of one kind
        "<=": lambda: left <= right,  # type: ignore[operator]
        ">": lambda: left > right,  # type: ignore[operator]
        ">=": lambda: left >= right,  # type: ignore[operator]
    }
    return compared[operator]()


def _kind(value: Scalar) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "truth"
        case str():
            return "text"
        case _:
            return "number"


def _shown(value: Scalar) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}" if value != 0 and math.isclose(value, float(f"{value:.6g}")) else repr(value)
        case _:
            return repr(value)
