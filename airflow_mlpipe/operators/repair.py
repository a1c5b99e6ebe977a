"""Makes a lost output again when a step needs it: by what its record says of the step that made it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError, InputLostError, MlpipeError
from airflow_mlpipe.operators.claims import Wait, describe
from airflow_mlpipe.planning.bind import input_from
from airflow_mlpipe.planning.plan import Task
from airflow_mlpipe.resolving.decide import History
from airflow_mlpipe.runtime.protocol import load_spec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store import log as fingerprint_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.operators.life import Life
    from airflow_mlpipe.operators.outcome import Outcome
    from airflow_mlpipe.runtime.protocol import InputSpec, OutputRef, StepSpec
    from airflow_mlpipe.store.log import Owner, Record

MAX_DEPTH = 20
"""How many steps, each made for the next, are made again for one that needs them."""


def repair(life: Life, task: Task, lost: InputLostError) -> Task:
    """Return a task whose lost input was made again, by its producer's own code, parameters and inputs.

    The damaged record is voided. Under the producer's own claim the step runs, or takes what somebody else has made of
    it by now; its output may be another one than before, then the task is another one, too.

    :raises DataError: if that cannot be done; it names the task to clear.
    """
    parts = layout.output_parts(lost.path)
    if parts is None:
        raise lost
    fingerprint, claim, output = parts
    record = fingerprint_log.Log.read(life.site.store, fingerprint).commit_of(claim)
    if record is None:
        raise lost
    spec = load_spec(record.body.get("spec", {}))
    owner = _owner(life.owner, spec)
    life.say(f"output {output} of {describe(owner)} was lost: {lost.reason}; it is made again")
    fingerprint_log.void(life.site.store, fingerprint, record.number, f"output {output}: {lost.reason}")
    try:
        made = _make(life, record, spec, owner)
    except MlpipeError as error:
        message = f"{lost}; it could not be made again: {error}"
        raise DataError(message) from error
    known = {
        name: _anew(made.outputs[output], wanted, life.site.store.uri)
        for name, wanted in task.spec.inputs.items()
        if wanted.uri == life.site.store.uri(lost.path)
    }
    return replace(task, spec=task.spec.with_inputs(known))


def _anew(output: OutputRef, wanted: InputSpec, uri_of: Callable[[str], str]) -> InputSpec:
    """Return an input that takes what was made again; some files of it are expected to be what they were."""
    taken = input_from(output, wanted, uri_of)
    return replace(taken, content=wanted.content) if wanted.files else taken


def _make(life: Life, record: Record, spec: StepSpec, owner: Owner) -> Outcome:
    if life.depth >= MAX_DEPTH:
        message = f"more than {MAX_DEPTH} outputs that are made from each other are lost"
        raise DataError(message)
    if not record.body.get("outputs"):
        message = "its record does not say what it made"
        raise DataError(message)
    history = History.read(life.site, spec.pipeline, [spec.step], life.history.scanned)
    life.look_up.refresh(record.fingerprint)
    producer = replace(
        life, owner=owner, history=history, before=Wait(), depth=life.depth + 1, reasons=(), trials_here=True
    )
    return producer.live(Task(spec))


def _owner(consumer: Owner, spec: StepSpec) -> Owner:
    """Return in whose name the producer runs: this very task, which is no earlier try of it."""
    instance = f"{consumer.task_instance}/{spec.step}" if consumer.task_instance else None
    return replace(consumer, pipeline=spec.pipeline, step=spec.step, task_instance=instance)
