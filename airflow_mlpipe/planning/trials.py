"""The steps that a step is made of: the trials of a sweep, and which is the best; its mini-batches. Pure.

A mini-batch is spoken of as a trial, too, where it makes no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.runtime.protocol import OutputSpec, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.planning.plan import Found
    from airflow_mlpipe.runtime.composite import BatchSpec, ParallelSpec, SweepSpec
    from airflow_mlpipe.runtime.protocol import Scalar, StepSpec


@dataclass(frozen=True)
class Trial:
    """One trial: a step with its parameters set, like any other, so that a plain step of the same reuses it as well.

    ``number`` counts from 1; ``parameters`` are those that the sweep sets. A mini-batch has ``files`` in their place.
    """

    number: int
    parameters: Mapping[str, Scalar]
    spec: StepSpec
    files: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of its spec, whose inputs must be known."""
        return fingerprint(components(self.spec))

    def __str__(self) -> str:
        """Return its number and parameters, or files, as a person would name it."""
        return f"{'batch' if self.files else 'trial'} {self.number} ({self.what})"

    @property
    def what(self) -> str:
        """What tells it from the others, in a few words."""
        if len(self.files) > 1:
            return f"{len(self.files)} files, {self.files[0]} to {self.files[-1]}"
        return self.files[0] if self.files else label(self.parameters)


def label(parameters: Mapping[str, Scalar]) -> str:
    """Return parameters in a few words: ``c=0.1, kernel=rbf``."""
    return ", ".join(f"{name}={text_of(value)}" for name, value in parameters.items())


def name_of(step: str, number: int) -> str:
    """Return under which name the trial of a step runs."""
    return f"{step}[{number}]"


def trials_of(spec: StepSpec) -> tuple[Trial, ...]:
    """Return the trials of a sweep, or the mini-batches that are dealt out, each a spec of its own; none of other steps.

    What they leave is nobody's but the step's: its outputs go to destinations and update assets, once.
    """
    outputs = {name: OutputSpec(output.kind) for name, output in spec.outputs.items()}
    alone = replace(spec, outputs=outputs, sweep=None, parallel=None)
    if spec.sweep is not None:
        return tuple(
            Trial(number, given, replace(_named(alone, number), parameters={**spec.parameters, **given}))
            for number, given in enumerate(spec.sweep.trials, start=1)
        )
    if spec.parallel is not None:
        return tuple(
            Trial(number, {}, _of_files(_named(alone, number), spec.parallel, batch), batch.files)
            for number, batch in enumerate(spec.parallel.batches, start=1)
        )
    return ()


def _named(spec: StepSpec, number: int) -> StepSpec:
    return replace(spec, step=name_of(spec.step, number))


def _of_files(spec: StepSpec, parallel: ParallelSpec, batch: BatchSpec) -> StepSpec:
    """Return a spec that reads some files of an input; whether others change there is nothing to it."""
    given = replace(spec.inputs[parallel.over], content=batch.content, files=batch.files, token=None, compare=None)
    return spec.with_inputs({parallel.over: given})


def objective_of(sweep: SweepSpec, metrics: Mapping[str, float]) -> float | str:
    """Return the value of the objective among the metrics of a trial, or what is wrong with it."""
    value = metrics.get(sweep.metric)
    if value is None:
        logged = ", ".join(sorted(metrics)) or "none"
        return (
            f"it logged no metric {sweep.metric!r}, which is the objective; it logged: {logged}. "
            f'Log it with Run.get_context().log("{sweep.metric}", value), or correct sweep.objective.metric'
        )
    if not math.isfinite(value):
        return f"its metric {sweep.metric!r}, which is the objective, is {value}: log a finite number"
    return value


def best_of(sweep: SweepSpec, found: Iterable[tuple[Trial, Found]]) -> tuple[Trial, Found] | None:
    """Return the best of some trials, of equals the one with the lowest number; None where none has the objective."""
    sign = 1.0 if sweep.goal == "maximize" else -1.0
    ranked = [
        (sign * value, -trial.number, trial, record)
        for trial, record in found
        if isinstance(value := objective_of(sweep, record.metrics), float | int)
    ]
    if not ranked:
        return None
    _, _, trial, record = max(ranked, key=lambda each: each[:2])
    return trial, record
