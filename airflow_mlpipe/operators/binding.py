"""Binds a step in its turn: from the plan of the run, or here and now."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import Pipeline, parameter_values
from airflow_mlpipe.definitions.locations import uri
from airflow_mlpipe.exceptions import DataChangedError, DataError, ParameterError
from airflow_mlpipe.operators.regenerate import REGENERATE, chosen_steps
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.gate import UPSTREAM, NotThereError
from airflow_mlpipe.planning.plan import Task, fill_in
from airflow_mlpipe.resolving.facts import Facts, read_inputs
from airflow_mlpipe.resolving.images import check_known
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.runtime.protocol import InputSpec, load_output
from airflow_mlpipe.store import runs, snapshots
from airflow_mlpipe.store.digests import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_mlpipe.definitions import Step
    from airflow_mlpipe.operators.run_context import RunContext
    from airflow_mlpipe.resolving.launched import Launched
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec

_ATTEMPTS = 3


@dataclass(frozen=True)
class NotRun:
    """A step that is not run, and why; ``plan`` is the id of the plan it follows."""

    reason: Reason
    plan: str = ""


@dataclass(frozen=True)
class Bound:
    """A step whose inputs are all known.

    ``scanned`` holds the files of the snapshots read for it, ``plan`` the id of the plan it follows.
    """

    task: Task
    scanned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    plan: str = ""


def bind_from_plan(  # noqa: PLR0913 -- what a planned step is bound from
    site: Site,
    run: RunContext,
    pipeline: Pipeline,
    step: Step,
    parameters: Mapping[str, Any],
    say: Callable[[str], None],
) -> Bound | NotRun:
    """Return a step as the plan of its run bound it, with the outputs that came since.

    Where the definition has changed since (the task was cleared later), or there is no plan (the store was emptied, or a
    branch led here before it was made), the step is bound again, and the log says so.

    :returns: `NotRun` if its condition does not hold, or a step it takes data from was skipped and left no output.
    :raises ConditionError: if its condition cannot be worked out.
    :raises PlanError: if a newer version wrote the plan.
    """
    data = runs.read_plan(site.store, run.pipeline, run.run)
    plan = RunPlan.from_json(data) if data else RunPlan(run.pipeline, run.run, "", {}, {})
    task = plan.tasks.get(run.step)
    scanned: Mapping[str, Mapping[str, str]] = {}
    if plan.definition != pipeline.digest or task is None or not _has_code(site, task):
        say("the step is bound again: its run has no plan of this definition, or the planned code is gone")
        task, scanned = _bind_again(site, run, pipeline, step, parameters)
    elif task.spec.environment.unknown is not None:
        say(f"its image was not known when the run was planned: {task.spec.environment.unknown}; it is asked for again")
        task = _with_image(site, pipeline, step, task)
    notes = runs.read_notes(site.store, run.pipeline, run.run)
    if task.gate and (closed := task.gate.closed(partial(_metrics_of, notes, plan))):
        return NotRun(closed, plan.id)
    spec = fill_in(task.spec, _known_outputs(notes, plan), site.store.uri)
    if spec.waits_for():
        return NotRun(Reason(UPSTREAM, "a step it takes data from was skipped and left no output"), plan.id)
    _check_comparable(spec)
    return Bound(replace(task, spec=read_inputs(site, spec)), scanned, plan.id)


def bind_here(  # noqa: PLR0913 -- what an unplanned step is bound from
    site: Site, run: RunContext, step: Step, folder: Path, parameters: Mapping[str, Any], upstream: Mapping[str, Any]
) -> Bound:
    """Return a step of a hand-written DAG, bound to its code, inputs and parameters as they are now.

    :param upstream: what other tasks gave for inputs: the XCom of one of our operators, or a URL or path.
    :raises DataError: if an input is missing, cannot be read, or is nothing we can take.
    :raises ParameterError: if the step uses a param that is neither a text nor a number, true or false.
    """
    step = step.model_copy(update={"name": run.step})  # that of the very task instance, as places are named after it
    facts = Facts(site, standing_alone(run.pipeline, step, folder), run.values(parameters))
    task = _packed(facts, step)
    _check_scalars(task.spec.parameters)
    _check_comparable(task.spec)
    given = {name: _from_xcom(name, value, task.spec.inputs[name], folder) for name, value in upstream.items()}
    return Bound(replace(task, spec=facts.read_inputs(task.spec.with_inputs(given))), facts.scanned())


def bound_before(launched: Launched) -> Bound:
    """Return a step as it was bound when it was launched, whatever has changed since."""
    task = Task(launched.spec, allow_reuse=launched.allow_reuse, regenerate=launched.regenerate)
    return Bound(task, plan=launched.plan)


def standing_alone(name: str, step: Step, folder: Path) -> Pipeline:
    """Return a pipeline of just one step, which stands for a hand-written DAG."""
    alone = Pipeline.model_construct(name=name, steps=(step,))
    alone.folder = folder
    return alone


def _check_scalars(parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        if not isinstance(value, str | int | float | None):
            message = (
                f"the param {name!r} is {value!r}; a step takes texts, numbers, true and false: "
                "hand over a part of it as one of the operator's parameters, with an Airflow template"
            )
            raise ParameterError(message)


def _with_image(site: Site, pipeline: Pipeline, step: Step, task: Task) -> Task:
    """Return a planned task whose image is asked for again; all else stays as it was planned."""
    facts = Facts(site, pipeline, Values())
    environment = replace(facts.environment(step), variables=task.spec.environment.variables)
    spec = replace(task.spec, environment=environment)
    facts.pack(spec)
    return replace(task, spec=spec)


def _check_comparable(spec: StepSpec) -> None:
    """Make sure that all that the fingerprint compares is known.

    :raises ImageUnknownError: if the image is not, and counts; it says why.
    """
    if not spec.environment.comparable:
        check_known(spec)


def _has_code(site: Site, task: Task) -> bool:
    return task.spec.code is None or snapshots.exists(site.store, task.spec.code)


def _bind_again(
    site: Site, run: RunContext, pipeline: Pipeline, step: Step, parameters: Mapping[str, Any]
) -> tuple[Task, Mapping[str, Mapping[str, str]]]:
    given = {name: value for name, value in parameters.items() if name in pipeline.parameters}
    facts = Facts(site, pipeline, run.values(parameter_values(pipeline, given)))
    chosen = chosen_steps(parameters.get(REGENERATE), {known.name for known in pipeline.steps})
    task = _packed(facts, step)
    return replace(task, regenerate=step.name in chosen), facts.scanned()


def _packed(facts: Facts, step: Step) -> Task:
    """Return the task of a step whose code lies in the store; a file edited meanwhile makes it read again."""
    for attempt in range(_ATTEMPTS):
        task = facts.task(step)
        try:
            facts.pack(task.spec)
        except DataChangedError:
            if attempt == _ATTEMPTS - 1:
                raise
            facts.forget_code()
        else:
            return task
    raise AssertionError


def _metrics_of(notes: Mapping[str, Mapping[str, Any]], plan: RunPlan, step: str) -> Mapping[str, float]:
    """Return the metrics of a step that is done; what counts is as for its outputs.

    :raises NotThereError: if it was not run.
    """
    note, decision = notes.get(step, {}), plan.decisions.get(step)
    if note.get("plan") != plan.id and decision is not None and decision.choice in {"reuse", "not_run"}:
        note = {"outcome": decision.choice, "metrics": decision.found.metrics if decision.found else {}}
    if note.get("outcome", "not_run") == "not_run":
        raise NotThereError(step)
    metrics: Mapping[str, float] = note.get("metrics", {})
    return metrics


def _known_outputs(notes: Mapping[str, Mapping[str, Any]], plan: RunPlan) -> dict[str, Mapping[str, OutputRef]]:
    """Return the outputs of the steps that are done.

    What steps noted since the plan was made counts first, then what the plan reused, then what steps noted before: the
    run was planned anew, and they were not cleared.
    """
    before: dict[str, Mapping[str, OutputRef]] = {}
    since: dict[str, Mapping[str, OutputRef]] = {}
    for step, note in notes.items():
        outputs = {name: load_output(item) for name, item in note.get("outputs", {}).items()}
        (since if note.get("plan") == plan.id else before)[step] = outputs
    left = {step: outputs for step, outputs in before.items() if step not in plan.not_run()}
    return {**left, **plan.reused(), **since}


def _from_xcom(name: str, value: Any, wanted: InputSpec, folder: Path) -> InputSpec:
    """Return the input that another task's XCom stands for; a relative path begins at a folder."""
    match value:
        case {"uri": str(place), "digest": str(digest), "size": int(size), "files": int(files), "kind": str(kind)}:
            content = Content(kind, digest, size, files)
            return replace(
                wanted, uri=place, content=content, datastore=value.get("datastore"), token=value.get("token")
            )
        case str() if value:
            return replace(wanted, uri=uri(value, folder), producer=None)
        case None:
            message = f"input {name!r}: the task that gives it has left no value; run it first, or clear it"
            raise DataError(message)
    message = (
        f"input {name!r} must be the output of a step operator (operator.output['<name>']) or a path or URL, "
        f"not {value!r}"
    )
    raise DataError(message)
