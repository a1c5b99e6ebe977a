"""The graph of a pipeline: who needs whom."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.data import StepOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.definitions.pipeline import Pipeline
    from airflow_mlpipe.definitions.steps import Step


def edges(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Return for each step the steps it needs, each once: whose data it reads, those it runs after or judges by."""
    return edges_of(pipeline.steps)


def edges_of(steps: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    """Return the same for steps that are no pipeline yet."""
    return {
        step.name: tuple(
            dict.fromkeys(
                [
                    *(bound.step for bound in step.inputs.values() if isinstance(bound, StepOutput)),
                    *step.run_after,
                    *(step.condition.steps if step.condition else ()),
                ]
            )
        )
        for step in steps
    }


def order(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the steps so that each comes after all it needs; otherwise as they are written."""
    return order_of(edges(pipeline))


def order_of(needed: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the keys of a graph without cycles, each after all it needs.

    :raises ValueError: if there is a cycle.
    """
    missing = {step: len(needs) for step, needs in needed.items()}
    needed_by = downstream_of(needed)
    ready = deque(step for step, count in missing.items() if count == 0)
    done: list[str] = []
    while ready:
        step = ready.popleft()
        done.append(step)
        for dependent in needed_by[step]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    if len(done) < len(needed):
        message = "the steps need each other in a circle: " + " -> ".join(cycle_of(needed))
        raise ValueError(message)
    return tuple(done)


def downstream_of(needed: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return for each step the steps that need it."""
    found: dict[str, list[str]] = {step: [] for step in needed}
    for step, needs in needed.items():
        for upstream in needs:
            found[upstream].append(step)
    return {step: tuple(dependents) for step, dependents in found.items()}


def cycle_of(needed: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return one cycle in the order data flows, its first step again at the end; empty where there is none."""
    state: dict[str, bool] = {}  # False while on the way down from a root, True when done
    for root in needed:
        way = [(root, iter(needed[root]))] if root not in state else []
        state.setdefault(root, False)
        while way:
            step, rest = way[-1]
            upstream = next((name for name in rest if name in needed and not state.get(name)), None)
            if upstream is None:
                state[step] = True
                way.pop()
            elif upstream in state:
                names = [name for name, _ in way]
                return tuple(reversed([*names[names.index(upstream) :], upstream]))
            else:
                state[upstream] = False
                way.append((upstream, iter(needed[upstream])))
    return ()
