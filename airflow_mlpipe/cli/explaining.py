"""``mlpipe explain``: why a step ran or was reused in a run, and what it would do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import step_to_json
from airflow_mlpipe.cli.show import when, why
from airflow_mlpipe.cli.table import duration
from airflow_mlpipe.planning.explain import sentence

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from airflow_mlpipe.cli.report import RunReport, StepReport
    from airflow_mlpipe.planning.explain import Reason
    from airflow_mlpipe.store.store import Store


@dataclass(frozen=True)
class Explanation:
    """One step: what became of it in a run, and what would become of it now; None where that was not asked for."""

    step: str
    then: StepReport | None
    now: StepReport | None


def explanations(then: RunReport | None, now: RunReport | None, names: Iterable[str]) -> list[Explanation]:
    """Return an explanation for each of some steps."""
    past = {step.step: step for step in then.steps} if then else {}
    present = {step.step: step for step in now.steps} if now else {}
    return [Explanation(name, past.get(name), present.get(name)) for name in names]


def to_json(pipeline: str, then: RunReport | None, explained: Iterable[Explanation], store: Store) -> dict[str, Any]:
    """Return explanations as plain JSON data; ``now`` is what a plan would say of the step."""
    return {
        "pipeline": pipeline,
        "run_id": then.run_id if then else None,
        "steps": [
            {
                **(step_to_json(one.then, store) if one.then else {"step": one.step}),
                "now": step_to_json(one.now, store, planned=True) if one.now else None,
            }
            for one in explained
        ],
    }


def defaults(then: RunReport | None, now: RunReport | None, given: Container[str]) -> str:
    """Return in words which parameters are now what the definition says, and had another value in a run.

    :param given: the names of those that the user gives now.
    """
    before, after = then.parameters if then else {}, now.parameters if now else {}
    changed = [
        f"{name} = {value}, which was {before[name]}"
        for name, value in after.items()
        if name not in given and name in before and before[name] != value
    ]
    return f"with the default of {'; '.join(changed)}" if changed else ""


def lines(then: RunReport | None, one: Explanation, premise: str = "") -> Iterator[str]:
    """Yield the lines that tell a person about one step.

    :param premise: on what condition it would do so now.
    """
    yield one.step
    if one.then is not None and then is not None:
        yield f"  in the run of {when(str(then.run_id))}: {_then(one.then)}"
        yield from _causes(one.then)
    else:
        yield "  has not run yet"
    if one.now is not None:
        yield f"  now{premise and f', {premise}'}: {_now(one.now)}"
        if one.now.outcome == "run":
            yield from _causes(one.now)


def _then(step: StepReport) -> str:
    match step.outcome:
        case "ran":
            return f"ran in {duration(step.seconds)}, because" if step.causes else f"ran in {duration(step.seconds)}"
        case "failed":
            return f"failed: {why(step)}" + (", and had run because" if step.causes else "")
        case "reused" | "waited" | "not_run":
            return f"{step.outcome.replace('_', ' ')}, {why(step)}"
    return step.outcome


def _now(step: StepReport) -> str:
    match step.outcome:
        case "depends":
            return f"depends {why(step)}"
        case "reuse":
            return f"it would be reused, {why(step)}"
        case "not_run":
            return f"it would not run, {why(step)}"
    return "it would run, because"


def _causes(step: StepReport) -> Iterator[str]:
    if step.outcome != "waited":
        yield from (f"    {sentence(reason)}{_detail(reason)}" for reason in step.causes)


def _detail(reason: Reason) -> str:
    """Digests say nothing to most people, but here somebody asks."""
    if reason.component == "code" and reason.old and reason.new:
        return f" ({reason.old} -> {reason.new})"
    return ""
