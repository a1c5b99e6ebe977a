"""How a step ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_mlpipe.planning.explain import Reason, dump_reasons, summary
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.resolving.records import use_of
from airflow_mlpipe.runtime.protocol import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec
    from airflow_mlpipe.store import journal

Result: TypeAlias = Literal["reused", "ran", "waited"]


@dataclass(frozen=True)
class Outcome:
    """How a step ended. ``seconds`` is what the command took, also where an earlier run's output was reused."""

    result: Result
    spec: StepSpec
    fingerprint: str
    number: int
    outputs: Mapping[str, OutputRef]
    metrics: Mapping[str, float]
    seconds: float
    reasons: tuple[Reason, ...] = ()
    made_by: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Return the outcome and its reason in one line."""
        match self.result:
            case "reused":
                return f"reused: nothing it depends on has changed since run {self.made_by.get('run', '?')}"
            case "waited":
                return f"waited: {summary(self.reasons)}"
            case "ran":
                return f"ran: {summary(self.reasons)}"

    def note(self) -> dict[str, Any]:
        """Return what a run keeps of the step, as plain JSON data."""
        return {
            "outcome": self.result,
            "fingerprint": self.fingerprint,
            "entry": self.number,
            "reasons": dump_reasons(self.reasons),
            "seconds": self.seconds,
            "outputs": {name: dump(output) for name, output in self.outputs.items()},
            "metrics": dict(self.metrics),
            "made_by": dict(self.made_by),
        }

    def use(self) -> journal.Use:
        """Return what the journal keeps of the step."""
        record = Found(self.number, self.outputs, self.metrics, self.seconds, self.made_by)
        return use_of(self.spec, self.result, self.fingerprint, record)
