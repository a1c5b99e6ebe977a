"""``mlpipe cache audit``: runs reused steps again in the shadow, and compares what they make with what was kept."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.launchers.choose import launcher_for
from airflow_mlpipe.store import layout, snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_mlpipe.planning.plan import Decision, Found
    from airflow_mlpipe.resolving.planner import RunPlan
    from airflow_mlpipe.resolving.site import Site


@dataclass(frozen=True)
class Audited:
    """One step that was run again.

    ``differing`` are the outputs that came out otherwise, ``error`` is why it made none; ``seconds`` is what it took.
    """

    step: str
    fingerprint: str
    differing: tuple[str, ...] = ()
    error: str | None = None
    seconds: float = 0.0


def audit(site: Site, plan: RunPlan, sample: int | None, say: Callable[[str], None]) -> tuple[list[Audited], list[str]]:
    """Run steps again that a plan reuses; return what came out, and why others could not be run.

    Nothing is recorded, nothing is copied to a destination, and what they make is removed again.

    :param sample: how many steps, chosen by chance; all, if not given.
    """
    audited, left_out = [], []
    for decision in _chosen([each for each in plan.decisions.values() if each.choice == "reuse"], sample):
        if why := _cannot_run(site, decision):
            left_out.append(f"{decision.step}: {why}")
        elif decision.found:
            say(f"runs {decision.step} again")
            audited.append(_again(site, decision, decision.found))
    return audited, left_out


def _chosen(decisions: Sequence[Decision], sample: int | None) -> Sequence[Decision]:
    if sample is None or sample >= len(decisions):
        return decisions
    return random.sample(decisions, sample)


def _cannot_run(site: Site, decision: Decision) -> str | None:
    spec = decision.spec
    if spec.kind == "data_transfer" or spec.is_composite:
        what = "a transfer makes" if spec.kind == "data_transfer" else "its trials or mini-batches run, and it makes"
        return f"{what} no outputs of its own"
    if decision.found and decision.found.evicted:
        return "its outputs were evicted, and only their digests are known"
    if spec.environment.secrets:
        return "it takes secrets, which are given to runs only"
    if spec.code is not None and not snapshots.exists(site.store, spec.code):
        return "its code is no longer in the store"
    for name, given in spec.inputs.items():
        place = site.store.path_of(str(given.uri)) if given.datastore is None else None
        if place is not None and not site.store.sizes(place) and given.content and given.content.files:
            return f"its input {name} is no longer in the store"
    return None


def _again(site: Site, decision: Decision, found: Found) -> Audited:
    fingerprint, claim = str(decision.fingerprint), f"audit{uuid.uuid4().hex}"
    try:
        result = launcher_for(site, decision.spec).launch(decision.spec, fingerprint, claim, {}, lambda _: None)
    except MlpipeError as error:
        return Audited(decision.step, fingerprint, error=str(error))
    finally:
        site.store.remove(layout.outputs(fingerprint, claim))
    kept = {name: output.content.digest for name, output in found.outputs.items()}
    made = {name: output.content.digest for name, output in result.outputs.items()}
    differing = tuple(sorted(name for name in kept.keys() | made.keys() if kept.get(name) != made.get(name)))
    return Audited(decision.step, fingerprint, differing, seconds=result.seconds)
