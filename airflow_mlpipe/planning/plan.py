"""Which steps are reused, which run, and which depend on a step that must run first.

Pure: what lies outside (external data, the store) comes in through two functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from airflow_mlpipe.exceptions import ConditionError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components, input_from
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.gate import RUN_IF, UPSTREAM, NotThereError, UndecidedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow_mlpipe.planning.gate import Gate
    from airflow_mlpipe.runtime.protocol import InputSpec, OutputRef, StepSpec

Choice: TypeAlias = Literal["reuse", "run", "depends", "not_run"]


@dataclass(frozen=True)
class Task:
    """One step to decide: its draft, the user's switches, and what it follows.

    ``run_after`` names the steps it must come after, with or without taking their data; a name that is no step of the
    pipeline (a task of the user's own) can never be decided ahead. ``gate`` is the condition on which it runs at all.
    """

    spec: StepSpec
    run_after: tuple[str, ...] = ()
    allow_reuse: bool = True
    regenerate: bool = False
    gate: Gate | None = None


@dataclass(frozen=True)
class Found:
    """A record that can be reused, with everything a run wants to know of it.

    ``number`` is its entry in the log of the fingerprint. ``undelivered`` names outputs whose destination does not
    hold the content (any more): the step is reused, but its turn must come to copy them again. The outputs of an
    ``evicted`` one are known and no longer there.
    """

    number: int
    outputs: Mapping[str, OutputRef]
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    made_by: Mapping[str, str] = field(default_factory=dict)
    undelivered: tuple[str, ...] = ()
    evicted: bool = False


@dataclass(frozen=True)
class Missing:
    """No record can be reused, and why; no reasons where the step has never run with this fingerprint."""

    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What shall happen to one step.

    ``spec`` is as complete as it can be. ``fingerprint`` is None while an input or the image is unknown. ``depends_on`` names
    the steps that have to run before this one can be decided.
    """

    choice: Choice
    spec: StepSpec
    fingerprint: str | None = None
    found: Found | None = None
    reasons: tuple[Reason, ...] = ()
    depends_on: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        """The name of the step."""
        return self.spec.step


ReadInputs: TypeAlias = "Callable[[StepSpec], StepSpec]"
"""Fills in the content of a step's external inputs, as they are now."""

LookUp: TypeAlias = "Callable[[StepSpec, str], Found | Missing]"
"""Finds a reusable record of a complete spec with this fingerprint."""

Explain: TypeAlias = "Callable[[StepSpec], tuple[Reason, ...]]"
"""Says how a complete spec differs from the nearest earlier record."""


def plan(  # noqa: PLR0913 -- the four functions are one door to the outside
    tasks: Sequence[Task],
    read_inputs: ReadInputs,
    look_up: LookUp,
    explain: Explain,
    uri_of: Callable[[str], str],
    outside: Collection[str] = (),
) -> tuple[Decision, ...]:
    """Decide steps in dependency order; each task comes after those it waits for.

    A step whose outputs were evicted is reused if nobody needs them: if all that take data from it are reused (rule 12).

    :param uri_of: gives the URI of a path below the store's root.
    :param outside: the steps whose outputs others than the steps may read.
    """
    decisions = _decide_all(tasks, read_inputs, look_up, explain, uri_of)
    needed = _needed_again(tasks, decisions, outside)
    if not needed:
        return decisions

    def look_again(spec: StepSpec, digest: str) -> Found | Missing:
        result = look_up(spec, digest)
        if spec.step in needed and isinstance(result, Found) and result.evicted:
            return Missing((Reason("outputs", f"its outputs were evicted, and {needed[spec.step]} needs them"),))
        return result

    return _decide_all(tasks, read_inputs, look_again, explain, uri_of)


def _needed_again(tasks: Sequence[Task], decisions: Sequence[Decision], outside: Collection[str]) -> dict[str, str]:
    """Return the steps whose evicted outputs somebody needs, and who.

    What a step that is not reused takes data from must be there; and what comes after it depends on it, which makes
    that a step that is not reused, too.
    """
    evicted = {each.step for each in decisions if each.choice == "reuse" and each.found and each.found.evicted}
    if not evicted:
        return {}
    takes_from = {task.spec.step: _producers(task.spec) for task in tasks}
    followers: dict[str, list[str]] = {}
    for task in tasks:
        for before in dict.fromkeys((*takes_from[task.spec.step], *task.run_after)):
            followers.setdefault(before, []).append(task.spec.step)
    needed = {each.step: "a task outside the pipeline" for each in decisions if each.step in evicted & set(outside)}
    ahead = [each.step for each in decisions if each.choice not in {"reuse", "not_run"} or each.step in needed]
    not_reused = set(ahead)
    for step in ahead:  # it grows meanwhile
        made_again = [producer for producer in takes_from[step] if producer in evicted]
        for producer in made_again:
            needed.setdefault(producer, step)
        fresh = [name for name in dict.fromkeys((*made_again, *followers.get(step, ()))) if name not in not_reused]
        not_reused.update(fresh)
        ahead += fresh
    return needed


def _producers(spec: StepSpec) -> tuple[str, ...]:
    """Return the steps that a step takes data from, each once."""
    return tuple(dict.fromkeys(wanted.producer[0] for wanted in spec.inputs.values() if wanted.producer))


def _decide_all(
    tasks: Sequence[Task], read_inputs: ReadInputs, look_up: LookUp, explain: Explain, uri_of: Callable[[str], str]
) -> tuple[Decision, ...]:
    known: dict[str, Decision] = {}
    for task in tasks:
        known[task.spec.step] = _decide(task, known, read_inputs, look_up, explain, uri_of)
    return tuple(known.values())


def _decide(  # noqa: PLR0913 -- the four functions are one door to the outside
    task: Task,
    known: Mapping[str, Decision],
    read_inputs: ReadInputs,
    look_up: LookUp,
    explain: Explain,
    uri_of: Callable[[str], str],
) -> Decision:
    reused = {
        name: done.found.outputs
        for name in _producers(task.spec)
        if (done := known.get(name)) and done.found and done.choice == "reuse"
    }
    spec = fill_in(task.spec, reused, uri_of)
    upstream = (*spec.waits_for(), *task.run_after)
    blocking = [name for name in upstream if name not in known or known[name].choice not in {"reuse", "not_run"}]
    depends_on = tuple(dict.fromkeys(blocking))
    if ahead := _gated(task.gate, spec, known, depends_on) or _left_without(spec, known):
        return ahead
    if depends_on and (forced := forced_reason(task)):
        return Decision("run", spec, reasons=(forced,), depends_on=depends_on)
    if depends_on:
        return Decision("depends", spec, depends_on=depends_on)
    return decide(replace(task, spec=read_inputs(spec)), look_up, explain)


def _gated(
    gate: Gate | None, spec: StepSpec, known: Mapping[str, Decision], depends_on: tuple[str, ...]
) -> Decision | None:
    """Return what becomes of a step that its condition keeps from running, or that its condition may keep from it."""
    if gate is None:
        return None

    def metrics_of(step: str) -> Mapping[str, float]:
        decision = known.get(step)
        if decision is not None and decision.choice == "not_run":
            raise NotThereError(step)
        if decision is None or decision.choice != "reuse" or decision.found is None:
            raise UndecidedError(step)
        return decision.found.metrics

    try:
        closed = gate.closed(metrics_of)
    except UndecidedError as error:
        return Decision("depends", spec, depends_on=depends_on or (error.step,))
    except ConditionError as error:  # it fails in its turn, and its log says why
        return Decision("depends", spec, reasons=(Reason(RUN_IF, str(error)),), depends_on=depends_on or gate.steps)
    return Decision("not_run", spec, reasons=(closed,)) if closed else None


def _left_without(spec: StepSpec, known: Mapping[str, Decision]) -> Decision | None:
    """Return what becomes of a step that takes data from one that is not run."""
    missing = [name for name in _producers(spec) if name in known and known[name].choice == "not_run"]
    reasons = tuple(Reason(UPSTREAM, f"{name} was not run") for name in missing)
    return Decision("not_run", spec, reasons=reasons) if reasons else None


def fill_in(spec: StepSpec, outputs: Mapping[str, Mapping[str, OutputRef]], uri_of: Callable[[str], str]) -> StepSpec:
    """Return a spec with the inputs whose producers' outputs are known.

    :param outputs: step -> output -> what was published.
    """
    known: dict[str, InputSpec] = {}
    for name, wanted in spec.inputs.items():
        if wanted.content is None and wanted.producer:
            step, output = wanted.producer
            if step in outputs and output in outputs[step]:
                known[name] = input_from(outputs[step][output], wanted, uri_of)
    return spec.with_inputs(known) if known else spec


def forced_reason(task: Task) -> Reason | None:
    """Return why a step must run whatever the store holds, or None."""
    if not task.allow_reuse:
        return Reason("allow_reuse", "allow_reuse is false")
    if task.regenerate:
        return Reason("regenerate_outputs", "regenerate_outputs asks for it")
    return None


def decide(task: Task, look_up: LookUp, explain: Explain) -> Decision:
    """Decide one step whose inputs are all known."""
    if not task.spec.environment.comparable:
        unknown = Reason("image", str(task.spec.environment.unknown))
        return Decision("run", task.spec, reasons=(unknown,))
    digest = fingerprint(components(task.spec))
    forced = forced_reason(task)
    if forced and not task.allow_reuse:  # rule 11: that never looks
        return Decision("run", task.spec, digest, reasons=(forced,))
    result = look_up(task.spec, digest)
    if forced:
        others = (result.reasons or explain(task.spec)) if isinstance(result, Missing) else ()
        return Decision("run", task.spec, digest, reasons=(forced, *others))
    if isinstance(result, Missing):
        return Decision("run", task.spec, digest, reasons=result.reasons or explain(task.spec))
    if result.undelivered:
        reasons = tuple(Reason("destination", name, None, "to be copied again") for name in result.undelivered)
        return Decision("run", task.spec, digest, result, reasons)
    return Decision("reuse", task.spec, digest, result)
