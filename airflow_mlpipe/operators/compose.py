"""A step that is made of others: a sweep takes the best of its trials, a parallel step what all its mini-batches left.

Runs those that are missing where no task of their own does. What they left is published once more as the outputs of the
step, so that its record stands for itself: it can be kept, evicted, lost and made again without a word about trials.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataChangedError, InputLostError, StepError
from airflow_mlpipe.operators.claims import Wait
from airflow_mlpipe.planning.trials import objective_of
from airflow_mlpipe.resolving.decide import History
from airflow_mlpipe.resolving.trials import look_up_trials
from airflow_mlpipe.resolving.union import unite
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store import outputs as published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.operators.life import Life
    from airflow_mlpipe.planning.plan import Decision, Found, Task
    from airflow_mlpipe.planning.trials import Trial
    from airflow_mlpipe.resolving.launched import Launched
    from airflow_mlpipe.resolving.trials import Tried
    from airflow_mlpipe.runtime.protocol import StepSpec

_NAMED = 5
"""How many trials that failed an error names."""

BEGUN = {"outcome": "planned"}
"""The note of a trial that begins anew: what an earlier try of it came to is not what it comes to."""


@dataclass(frozen=True)
class Failure:
    """Why there is nothing of a trial or mini-batch to take; ``own`` if that is its own doing, which may be allowed."""

    error: str
    own: bool = True


def make_trials(life: Life, task: Task, decision: Decision) -> None:
    """Run the trials of a sweep that are missing, unless others do, before the sweep itself is claimed.

    One whose outputs were evicted was as good as its record says: only if it is the best it runs again, here.
    """
    if not decision.spec.is_composite or decision.found:
        return
    allow_reuse, regenerate = task.allow_reuse, task.regenerate
    tried = tried_in(life, decision.spec, allow_reuse=allow_reuse, regenerate=regenerate)
    if life.trials_here and tried.missing:
        for trial in tried.missing:
            life.say(f"{trial} begins")
            with suppress(StepError):  # its note says so
                _live(life, task, trial)
        tried = tried_in(life, decision.spec, allow_reuse=allow_reuse, regenerate=regenerate)
    if decision.spec.sweep and tried.best and tried.best[1].evicted:
        trial = tried.best[0]
        life.say(f"{trial} is the best, and its outputs were evicted; it runs again")
        _live(life, task, trial)


def tried_in(life: Life, spec: StepSpec, *, allow_reuse: bool, regenerate: bool) -> Tried:
    """Return what a step may take of its trials: where those are not reused, what the last try of each has left."""
    tried = look_up_trials(life.look_up, spec, only_this_run=regenerate or not allow_reuse)
    if allow_reuse:
        return tried
    notes = runs.read_notes(life.site.store, life.owner.pipeline, life.owner.run)
    last = {trial.number: notes.get(trial.spec.step, {}) for trial in tried.trials}
    undone = {number for number, note in last.items() if _is_undone(note) and note.get("plan") == life.plan}
    return replace(tried, found={number: found for number, found in tried.found.items() if number not in undone})


def _is_undone(note: Mapping[str, Any]) -> bool:
    return note.get("outcome") in {"failed", BEGUN["outcome"]}


def _live(life: Life, task: Task, trial: Trial) -> None:
    step, instance = trial.spec.step, life.owner.task_instance
    owner = replace(life.owner, step=step, task_instance=f"{instance}/{step}" if instance else None)
    history = History.read(life.site, owner.pipeline, [step], life.history.scanned)
    life.look_up.refresh(trial.fingerprint)
    alone = replace(life, owner=owner, history=history, before=Wait(), depth=life.depth + 1, reasons=())
    alone.live(replace(task, spec=trial.spec))


def compose(life: Life, launched: Launched) -> StepResult:
    """Return what a step comes to that is made of others; its seconds are those of all.

    :raises StepError: if more trials or mini-batches failed than may, one has no result for another reason, none has the
        objective, or two mini-batches left a file of one name; it names them.
    :raises InputLostError: if what one of them left is damaged or gone.
    :raises DataChangedError: if they were made of other data than the step is bound to by now.
    """
    spec = launched.spec
    tried = tried_in(life, spec, allow_reuse=launched.allow_reuse, regenerate=launched.regenerate)
    _refuse_changed(life, tried)
    _refuse_failed(tried, failures(life, tried))
    if spec.parallel:
        life.say(f"puts together what {len(tried.found)} of {len(tried.trials)} mini-batches left")
        outputs = {name: unite(life.site, launched, tried, name) for name in spec.outputs}
        return _result(life, tried, outputs, {})
    trial, record = _best(tried)
    value = record.metrics[tried.metric]
    life.say(f"the best of {len(tried.trials)} trials is {trial}: {tried.metric} = {value:.6g}")
    outputs = {name: _published(life, launched, trial, name, record) for name in spec.outputs}
    return _result(life, tried, outputs, record.metrics)


def _refuse_changed(life: Life, tried: Tried) -> None:
    """Make sure that trials and mini-batches are of the data that the step is bound to: a record of both would be wrong.

    :raises DataChangedError: if they are not.
    """
    parallel, what = tried.spec.parallel, ""
    if parallel and parallel.dealt and parallel.dealt != tried.spec.inputs[parallel.over].content:
        what = f"the files of input {parallel.over!r} changed after they were dealt out to mini-batches"
    for trial in tried.missing:
        note = _note_of(life, trial)
        if note.get("fingerprint", trial.fingerprint) != trial.fingerprint:
            what = what or f"{trial} ran with other inputs or code than the step has now: they changed meanwhile"
    if what:
        message = f"{what}; clear the task {tried.spec.step}.plan with what comes after it, or run the pipeline again"
        raise DataChangedError(message)


def _refuse_failed(tried: Tried, failed: Mapping[int, Failure]) -> None:
    """Make sure that no more trials failed than may, and that none is lacking for any other reason.

    What was killed, or never had its turn, would succeed another time: a record without it would be reused for ever.

    :raises StepError: if it is not so.
    """
    own = {number: failure for number, failure in failed.items() if failure.own}
    if len(own) > _allowed(tried.spec) or len(own) == len(tried.trials):
        raise StepError(_told(tried, own))
    if lost := {number: failure for number, failure in failed.items() if not failure.own}:
        what, task = ("mini-batches", "batch") if tried.spec.parallel else ("trials", "trial")
        message = (
            f"{len(lost)} of {len(tried.trials)} {what} did not come to an end of their own, so the step has no result: "
            f"{_named(tried, lost)}\n"
            f"Clear the task {tried.spec.step}.{task}, or run the pipeline again: what is there is reused"
        )
        raise StepError(message)


def _best(tried: Tried) -> tuple[Trial, Found]:
    if tried.best is None:
        message = "a sweep in which not every trial failed has a best one"
        raise AssertionError(message)
    return tried.best


def _result(life: Life, tried: Tried, outputs: Mapping[str, OutputRef], metrics: Mapping[str, float]) -> StepResult:
    observed: dict[str, str] = {}
    for other in tried.trials:
        if other.number in tried.found:
            observed.update(life.look_up.observed(other.fingerprint, tried.found[other.number].number))
    return StepResult(
        exit_code=0,
        seconds=sum(found.seconds for found in tried.found.values()),
        observed=observed,
        metrics=metrics,
        outputs=outputs,
    )


def _allowed(spec: StepSpec) -> int:
    """Return how many trials or mini-batches may fail."""
    if spec.sweep:
        return spec.sweep.max_failed
    return spec.parallel.error_threshold if spec.parallel else 0


def failures(life: Life, tried: Tried) -> dict[int, Failure]:
    """Return why trials cannot be the best: they failed in this run, or have not the objective; by number."""
    failed: dict[int, Failure] = {}
    for trial in tried.trials:
        found = tried.found.get(trial.number)
        if found is None:
            failed[trial.number] = _why_missing(life, trial)
        elif tried.spec.sweep and isinstance(wrong := objective_of(tried.spec.sweep, found.metrics), str):
            failed[trial.number] = Failure(wrong)
    return failed


def _why_missing(life: Life, trial: Trial) -> Failure:
    note = _note_of(life, trial)
    if note.get("outcome") == "failed":
        return Failure(str(note.get("error")), own=note.get("own", False))
    why = "it has left no result: its task was ended, or did not have its turn; see the log of that, or clear it"
    return Failure(why, own=False)


def _note_of(life: Life, trial: Trial) -> Mapping[str, Any]:
    """Return what the trial left in this run, since its plan was made; empty if nothing."""
    note: Mapping[str, Any] = (
        runs.read_note(life.site.store, life.owner.pipeline, life.owner.run, trial.spec.step) or {}
    )
    return note if note.get("plan") == life.plan else {}


def _told(tried: Tried, failed: Mapping[int, Failure]) -> str:
    """Return in words which trials or mini-batches failed, and how many may."""
    if not tried.trials:
        return "its mini-batches were not dealt out in this run; clear the task that plans them"
    allowed = _allowed(tried.spec)
    what, field = (
        ("mini-batches", "parallel.error_threshold") if tried.spec.parallel else ("trials", "sweep.max_failed")
    )
    count = "all" if len(failed) == len(tried.trials) else f"{len(failed)} of {len(tried.trials)}"
    return f"{count} {what} failed, and {allowed or 'none'} may ({field}): {_named(tried, failed)}"


def _named(tried: Tried, failed: Mapping[int, Failure]) -> str:
    trials = {trial.number: trial for trial in tried.trials}
    named = "; ".join(f"{trials[number]}: {failure.error}" for number, failure in list(failed.items())[:_NAMED])
    return named + (f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else "")


def _published(life: Life, launched: Launched, trial: Trial, name: str, record: Found) -> OutputRef:
    """Publish an output of a trial as that of the sweep."""
    store, given = life.site.store, record.outputs[name]
    target = layout.output(launched.fingerprint, launched.work, name)
    lost = published.copy(store, given.path, target, given.content)
    if lost is None and store.local_root is not None:
        lost = published.check(store, given.path, given.content, Path(store.full(target)), life.site.index)
    if lost is None:
        return OutputRef(target, given.content)
    store.remove(target)
    message = f"output {name} of {trial} was lost: {lost}"
    raise InputLostError(message, given.path, lost)
