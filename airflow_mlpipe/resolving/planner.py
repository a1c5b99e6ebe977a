"""Plans a whole pipeline at once: binds every step, decides what can be decided, keeps the plan of the run."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataChangedError, PlanError
from airflow_mlpipe.planning import plan as planning
from airflow_mlpipe.planning.explain import dump_reasons, load_reasons
from airflow_mlpipe.planning.gate import Gate
from airflow_mlpipe.planning.plan import Decision, Found, Task
from airflow_mlpipe.resolving.decide import History, StoreLookUp
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.resolving.facts import Facts, tasks_of
from airflow_mlpipe.resolving.records import use_of
from airflow_mlpipe.resolving.trials import with_trials
from airflow_mlpipe.runtime.protocol import dump, load_output, load_spec
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store.copies import Copies

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_mlpipe.definitions import Pipeline
    from airflow_mlpipe.planning.bind import Values
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec

FORMAT = 1
_ATTEMPTS = 3


@dataclass(frozen=True)
class RunPlan:
    """What a run of a pipeline shall do; kept as the run's ``plan.json``.

    ``definition`` is the digest of the definition it was made from, ``id`` tells it from earlier plans of the same run.
    """

    pipeline: str
    run: str
    definition: str
    tasks: Mapping[str, Task]
    decisions: Mapping[str, Decision]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def reused(self) -> dict[str, Mapping[str, OutputRef]]:
        """Return the outputs of the steps that need not run."""
        return {name: d.found.outputs for name, d in self.decisions.items() if d.choice == "reuse" and d.found}

    def not_run(self) -> dict[str, Decision]:
        """Return the steps that a condition keeps from running, or the lack of data from one that it does."""
        return {name: decision for name, decision in self.decisions.items() if decision.choice == "not_run"}

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON data."""
        return {
            "format": FORMAT,
            "id": self.id,
            "pipeline": self.pipeline,
            "run": self.run,
            "definition": self.definition,
            "parameters": dict(self.parameters),
            "steps": [_step_to_json(self.tasks[name], decision) for name, decision in self.decisions.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunPlan:
        """Return the plan that `to_json` wrote.

        :raises PlanError: if a newer version wrote it.
        """
        if data.get("format") != FORMAT:
            message = (
                f"the plan of run {data.get('run')!r} has format {data.get('format')!r}; this airflow-mlpipe reads "
                f"{FORMAT}: use the same version for all tasks of a run, or clear its task 'plan'"
            )
            raise PlanError(message)
        steps = [_step_from_json(item) for item in data["steps"]]
        return cls(
            data["pipeline"],
            data["run"],
            data["definition"],
            {task.spec.step: task for task, _ in steps},
            {decision.step: decision for _, decision in steps},
            data["parameters"],
            data["id"],
        )


def make_plan(  # noqa: PLR0913 -- what a run is made of
    site: Site,
    pipeline: Pipeline,
    run: str,
    values: Values,
    *,
    regenerate: Collection[str] = (),
    waits: Mapping[str, tuple[str, ...]] | None = None,
    outside: Collection[str] | None = None,
    dry: bool = False,
) -> RunPlan:
    """Bind and decide all steps of a pipeline.

    Unless ``dry``, the code of steps that will or may run is put into the store, damaged records are voided, and what
    the steps were made from is kept for the next explanation.

    :param run: the id of the run.
    :param regenerate: the steps whose earlier outputs must not be reused.
    :param waits: by step, tasks outside the pipeline that it must wait for, which therefore decides in its turn.
    :param outside: the steps whose outputs tasks outside the pipeline may read; every step, if not given. Those that
        update an asset are among them in any case.
    :raises DataError: if an external input is missing or cannot be read.
    :raises SourceError: if a source directory cannot be packed.
    """
    for attempt in range(_ATTEMPTS):
        facts = Facts(site, pipeline, values)
        plan, history = _decide(facts, run, regenerate, waits, outside, dry=dry)
        try:
            if not dry:
                _keep(plan, facts, history)
        except DataChangedError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return plan
    raise AssertionError


def _decide(  # noqa: PLR0913 -- see above
    facts: Facts,
    run: str,
    regenerate: Collection[str],
    waits: Mapping[str, tuple[str, ...]] | None,
    outside: Collection[str] | None,
    *,
    dry: bool,
) -> tuple[RunPlan, History]:
    site, pipeline = facts.site, facts.pipeline
    tasks = tasks_of(facts, regenerate, waits)
    copies = Copies.read(site.store, pipeline.name)
    history = History.read(site, pipeline.name, [task.spec.step for task in tasks], facts.scanned(), copies)
    look_up = StoreLookUp(site, pipeline.name, run, lambda spec: interpreter_for(spec.environment, site.store), not dry)
    likely = history.fingerprints()
    if not dry:
        now = datetime.now(timezone.utc).isoformat()
        runs.write_pin(site.store, pipeline.name, run, {"time": now, "fingerprints": sorted(set(likely))})
    look_up.prefetch(likely, copies)
    if not dry:
        copies.keep()
    read_outside = {task.spec.step for task in tasks if outside is None or _has_asset(task.spec)} | set(outside or ())
    decisions = planning.plan(
        tasks, facts.read_inputs, look_up.find_or_evicted, history.explain, site.store.uri, read_outside
    )
    named = {decision.step: decision for decision in with_trials(look_up, decisions)}
    return (
        RunPlan(
            pipeline.name,
            run,
            pipeline.digest,
            {task.spec.step: task for task in tasks},
            {step.name: named[step.name] for step in pipeline.steps},
            facts.values.parameters,
        ),
        history,
    )


def _has_asset(spec: StepSpec) -> bool:
    """Say whether whoever listens to an asset may read an output."""
    return any(output.asset for output in spec.outputs.values())


def _keep(plan: RunPlan, facts: Facts, history: History) -> None:
    """Put what the steps to come will need into the store, then the plan itself."""
    for decision in plan.decisions.values():
        if decision.choice not in {"reuse", "not_run"}:
            facts.pack(decision.spec)
    store = facts.site.store
    runs.write_plan(store, plan.pipeline, plan.run, plan.to_json())
    for decision in plan.decisions.values():
        if decision.choice == "reuse" and decision.fingerprint:
            history.note(decision.spec, decision.fingerprint, plan.run)
    journal.append(store, plan.pipeline, plan.run, facts.values.run, uses_of(plan))


def uses_of(plan: RunPlan) -> list[journal.Use]:
    """Return what the journal keeps of the steps that a plan reuses."""
    return [
        use_of(decision.spec, "reused", decision.fingerprint, decision.found)
        for decision in plan.decisions.values()
        if decision.choice == "reuse" and decision.fingerprint and decision.found
    ]


def _step_to_json(task: Task, decision: Decision) -> dict[str, Any]:
    return {
        "step": decision.step,
        "decision": decision.choice,
        "depends_on": list(decision.depends_on),
        "fingerprint": decision.fingerprint,
        "reasons": dump_reasons(decision.reasons),
        "spec": dump(task.spec),
        "found": _found_to_json(decision.found) if decision.found else None,
        "allow_reuse": task.allow_reuse,
        "regenerate": task.regenerate,
        "run_after": list(task.run_after),
        **({"gate": {"run_if": task.gate.run_if, "parameters": dict(task.gate.parameters)}} if task.gate else {}),
    }


def _step_from_json(data: Mapping[str, Any]) -> tuple[Task, Decision]:
    spec: StepSpec = load_spec(data["spec"])
    gate = Gate(**data["gate"]) if data.get("gate") else None
    task = Task(spec, tuple(data["run_after"]), data["allow_reuse"], data["regenerate"], gate)
    decision = Decision(
        data["decision"],
        spec,
        data["fingerprint"],
        _found_from_json(data["found"]) if data["found"] else None,
        load_reasons(data["reasons"]),
        tuple(data["depends_on"]),
    )
    return task, decision


def _found_to_json(found: Found) -> dict[str, Any]:
    return {
        "number": found.number,
        "outputs": {name: dump(output) for name, output in found.outputs.items()},
        "metrics": dict(found.metrics),
        "seconds": found.seconds,
        "made_by": dict(found.made_by),
        "undelivered": list(found.undelivered),
        **({"evicted": True} if found.evicted else {}),
    }


def _found_from_json(data: Mapping[str, Any]) -> Found:
    outputs = {name: load_output(item) for name, item in data["outputs"].items()}
    return Found(**{**data, "outputs": outputs, "undelivered": tuple(data["undelivered"])})
