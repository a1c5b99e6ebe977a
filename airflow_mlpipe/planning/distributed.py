"""How many processes a step becomes in this run: its distribution, with the values of parameters in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import EstimatorStep, MpiStep
from airflow_mlpipe.definitions.faults import where
from airflow_mlpipe.definitions.placing import STARTERS, count_paths
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.runtime.protocol import DistributionSpec, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.definitions import Step
    from airflow_mlpipe.runtime.protocol import Scalar


def distribution_of(
    step: Step, evaluate: Callable[[Scalar], Scalar], target: str, starter: str | None
) -> DistributionSpec | None:
    """Return how many processes a step becomes, and what starts them; None for a step that is one process.

    :param evaluate: gives the value of a text that may hold expressions.
    :param target: the kind of the compute target.
    :param starter: what starts the processes where the step does not say.
    :raises ParameterError: if a count comes to something else than a whole number of at least 1, or the target has
        fewer nodes; if nothing says what starts the processes.
    """
    if not isinstance(step, EstimatorStep | MpiStep) or step.distribution is None:
        return None
    given = step.distribution
    kind = given.kind or starter
    if kind is None:
        message = (
            f"{step.name}: nothing says what starts the processes of the distribution: "
            f"write distribution.kind: {', '.join(STARTERS[:-1])} or {STARTERS[-1]}"
        )
        raise ParameterError(message)
    named, of_each = map(where, count_paths(step))
    nodes = _count(step.name, named, given.nodes, evaluate)
    processes = _count(step.name, of_each, given.processes_per_node, evaluate)
    if nodes > 1 and target != "kubernetes":
        message = (
            f"{step.name}: {named} is {nodes}, and the step runs on a {target} target, which is one "
            "machine: make it 1, or name a Kubernetes target as compute"
        )
        raise ParameterError(message)
    options = tuple(text_of(evaluate(text)) for text in given.options)
    return DistributionSpec(kind, nodes, processes, options, given.outputs_of)


def _count(step: str, name: str, given: int | str, evaluate: Callable[[Scalar], Scalar]) -> int:
    value = evaluate(given)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    message = (
        f"{step}: {name} is {given}, which comes to {value!r} in this run: it must be a whole number of at least 1; "
        "give the parameter such a value, and declare it with type: integer and minimum: 1"
    )
    raise ParameterError(message)
