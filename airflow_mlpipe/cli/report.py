"""What became of a run, or what would become of it: put together from its plan and its notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.planning.explain import Reason, dump_reasons, load_reasons
from airflow_mlpipe.planning.gate import RUN_IF, UPSTREAM
from airflow_mlpipe.runtime.protocol import load_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.planning.plan import Decision, Found
    from airflow_mlpipe.resolving.planner import RunPlan
    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.store import Store

ERROR = "error"
"""The component of the reason that says why a step failed."""


@dataclass(frozen=True)
class StepReport:
    """One step of a run.

    ``outcome`` is reused, ran, waited, failed or not_run; of a plan, reuse, run, depends or not_run. ``seconds`` is what the
    command took, also where an earlier run's outputs were taken; None where no command has run to its end.
    """

    step: str
    outcome: str
    reasons: tuple[Reason, ...] = ()
    seconds: float | None = None
    fingerprint: str | None = None
    outputs: Mapping[str, OutputRef] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    made_by: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    evicted: bool = False
    """Whether its outputs are known and no longer there."""

    @property
    def error(self) -> str | None:
        """Why it failed."""
        return next((reason.what for reason in self.reasons if reason.component == ERROR), None)

    @property
    def causes(self) -> tuple[Reason, ...]:
        """Why it was not reused."""
        return tuple(reason for reason in self.reasons if reason.component not in {ERROR, UPSTREAM, RUN_IF})


@dataclass(frozen=True)
class RunReport:
    """A run, or (``run_id`` None) what a run would do, with its steps in the order of the definition."""

    pipeline: str
    run_id: str | None
    state: str
    steps: tuple[StepReport, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def count(self, *outcomes: str) -> int:
        """Return how many steps ended so."""
        return sum(step.outcome in outcomes for step in self.steps)

    def to_json(self, store: Store) -> dict[str, Any]:
        """Return the report as plain JSON data."""
        planned = self.run_id is None
        return {
            "pipeline": self.pipeline,
            "run_id": self.run_id,
            "state": self.state,
            "steps": [step_to_json(step, store, planned=planned) for step in self.steps],
        }


def step_to_json(step: StepReport, store: Store, *, planned: bool = False) -> dict[str, Any]:
    """Return one step as plain JSON data; a planned one has a decision where a run one has an outcome."""
    outcome = {"decision": step.outcome, "depends_on": list(step.depends_on)} if planned else {"outcome": step.outcome}
    return {
        "step": step.step,
        **outcome,
        "reasons": dump_reasons(step.reasons),
        "seconds": step.seconds,
        "fingerprint": step.fingerprint,
        "outputs": {name: output_to_json(output, store) for name, output in step.outputs.items()},
        "metrics": dict(step.metrics),
    }


def output_to_json(output: OutputRef, store: Store) -> dict[str, Any]:
    """Return an output as plain JSON data: where it lies and what it is."""
    content = output.content
    return {"uri": uri_of(output, store), "digest": content.digest, "size": content.size, "files": content.files}


def uri_of(output: OutputRef, store: Store) -> str:
    """Return where an output lies: in the store, or where a transfer has put it."""
    return store.uri(output.path) if output.token is None else output.path


def place_of(output: OutputRef, store: Store) -> str:
    """Return where an output lies as people use it: a path where it is on this machine, else the URI."""
    return uri_of(output, store).removeprefix("file://")


def of_plan(plan: RunPlan) -> RunReport:
    """Return what a plan would do."""
    steps = (_planned(decision) for decision in plan.decisions.values())
    return RunReport(plan.pipeline, None, "planned", tuple(steps), plan.parameters)


def of_run(plan: RunPlan, notes: Mapping[str, Mapping[str, Any]], errors: Mapping[str, str] | None = None) -> RunReport:
    """Return what became of a run.

    :param notes: what the steps that had their turn have left.
    :param errors: of steps that failed before they could leave a note.
    """
    steps: dict[str, StepReport] = {}
    for name, decision in plan.decisions.items():
        if name in notes and not _outdated(notes[name], plan):
            steps[name] = _noted(name, notes[name])
        elif error := (errors or {}).get(name):
            steps[name] = StepReport(name, "failed", (Reason(ERROR, error),), fingerprint=decision.fingerprint)
        elif decision.choice == "reuse" and decision.found:
            steps[name] = _with_record(name, "reused", decision, decision.found)
        else:
            reasons = decision.reasons if decision.choice == "not_run" else ()
            steps[name] = StepReport(name, "not_run", reasons, fingerprint=decision.fingerprint)
    lost = {name for name, step in steps.items() if step.outcome == "failed" or _is_lost(step)}
    blamed = (_blamed(step, plan, lost) if _is_lost(step) else step for step in steps.values())
    return RunReport(plan.pipeline, plan.run, "failed" if lost else "success", tuple(blamed), plan.parameters)


def _outdated(note: Mapping[str, Any], plan: RunPlan) -> bool:
    """Say whether a step was not run by an earlier plan of the run, which says nothing of this one."""
    return note["outcome"] == "not_run" and note.get("plan") != plan.id


def _is_lost(step: StepReport) -> bool:
    """Say whether a step was not run for no reason of its own: something before it failed, or the run was ended."""
    return step.outcome == "not_run" and not step.reasons


def _planned(decision: Decision) -> StepReport:
    if decision.choice == "reuse" and decision.found:
        return _with_record(decision.step, "reuse", decision, decision.found)
    return StepReport(
        decision.step, decision.choice, decision.reasons, None, decision.fingerprint, depends_on=decision.depends_on
    )


def _with_record(name: str, outcome: str, decision: Decision, found: Found) -> StepReport:
    return StepReport(
        name,
        outcome,
        decision.reasons,
        found.seconds,
        decision.fingerprint,
        found.outputs,
        found.metrics,
        found.made_by,
        decision.depends_on,
        found.evicted,
    )


def _noted(name: str, note: Mapping[str, Any]) -> StepReport:
    error = (Reason(ERROR, note["error"]),) if note.get("error") else ()
    return StepReport(
        name,
        note["outcome"],
        (*load_reasons(note.get("reasons", ())), *error),
        note.get("seconds"),
        note.get("fingerprint"),
        {key: load_output(output) for key, output in note.get("outputs", {}).items()},
        note.get("metrics", {}),
        note.get("made_by", {}),
    )


def _blamed(step: StepReport, plan: RunPlan, lost: set[str]) -> StepReport:
    """Say which steps before it kept a step from running."""
    task = plan.tasks[step.step]
    before = dict.fromkeys((*task.spec.waits_for(), *task.run_after))
    reasons = tuple(Reason(UPSTREAM, f"{name} has no result") for name in before if name in lost)
    return StepReport(step.step, "not_run", reasons, fingerprint=step.fingerprint)
