"""Which trials of a sweep are known: looked up in bulk, without running anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.planning.trials import Trial, best_of, trials_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.planning.plan import Decision
    from airflow_mlpipe.resolving.decide import StoreLookUp
    from airflow_mlpipe.runtime.protocol import StepSpec


@dataclass(frozen=True)
class Tried:
    """The trials of a sweep, and the records of those that are known, by number.

    Where the outputs of one are gone for the room they took, its metrics still tell how good it was.
    """

    spec: StepSpec
    trials: tuple[Trial, ...]
    found: Mapping[int, Found]

    @property
    def missing(self) -> tuple[Trial, ...]:
        """Those that nobody has run."""
        return tuple(trial for trial in self.trials if trial.number not in self.found)

    @property
    def best(self) -> tuple[Trial, Found] | None:
        """The best of those that are known."""
        known = ((trial, self.found[trial.number]) for trial in self.trials if trial.number in self.found)
        return best_of(self.spec.sweep, known) if self.spec.sweep else None

    @property
    def metric(self) -> str:
        """The metric that tells how good a trial is."""
        return self.spec.sweep.metric if self.spec.sweep else ""

    def line(self) -> str:
        """Return in words how many are known."""
        what = "mini-batches" if self.spec.parallel else "trials"
        return f"{len(self.found)} of {len(self.trials)} {what} are known"


def look_up_trials(look_up: StoreLookUp, spec: StepSpec, *, only_this_run: bool = False) -> Tried:
    """Return what is known of the trials of a sweep whose inputs are known.

    :param only_this_run: whether only what this run has made counts.
    """
    trials = trials_of(spec)
    for trial in trials:
        look_up.refresh(trial.fingerprint)
    look_up.prefetch(trial.fingerprint for trial in trials)
    found = {trial.number: _find(look_up, trial, only_this_run=only_this_run) for trial in trials}
    return Tried(spec, trials, {number: record for number, record in found.items() if record})


def _find(look_up: StoreLookUp, trial: Trial, *, only_this_run: bool) -> Found | None:
    if only_this_run or trial.files:  # the outputs of every mini-batch are needed
        result = look_up.find(trial.spec, trial.fingerprint, only_this_run=only_this_run)
    else:
        result = look_up.find_or_evicted(trial.spec, trial.fingerprint)
    return result if isinstance(result, Found) else None


def with_trials(look_up: StoreLookUp, decisions: Iterable[Decision]) -> list[Decision]:
    """Return decisions that say of each sweep to run how many of its trials are known, where that can be told."""
    return [_with_trials(look_up, decision) for decision in decisions]


def _with_trials(look_up: StoreLookUp, decision: Decision) -> Decision:
    made_anew = {"allow_reuse", "regenerate_outputs"} & {reason.component for reason in decision.reasons}
    if decision.spec.sweep is None or decision.choice != "run" or decision.fingerprint is None or made_anew:
        return decision
    known = Reason("trials", look_up_trials(look_up, decision.spec).line())
    return replace(decision, reasons=(known, *decision.reasons))
