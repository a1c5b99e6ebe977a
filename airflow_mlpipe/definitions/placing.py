"""What of the distribution of a step does not fit the compute target that it runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from airflow_mlpipe.definitions.compute import KubernetesCompute
from airflow_mlpipe.definitions.distribution import Starter
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.faults import Fault
from airflow_mlpipe.definitions.mpi import MpiStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.compute import AnyCompute
    from airflow_mlpipe.definitions.faults import Path
    from airflow_mlpipe.definitions.steps import Step

STARTERS: tuple[str, ...] = get_args(Starter)
"""What may start the processes of a distribution."""


def count_paths(step: EstimatorStep | MpiStep) -> tuple[Path, Path]:
    """Return where a step says how many nodes there are, and how many processes on each."""
    if isinstance(step, MpiStep):
        return ("node_count",), ("process_count_per_node",)
    return ("distribution", "nodes"), ("distribution", "processes_per_node")


def distribution_faults(step: Step, target: AnyCompute, starter: str | None, at: Path) -> Iterator[Fault]:
    """Yield what of a step's distribution does not fit a compute target.

    :param starter: what starts the processes where the step does not say: the word of its framework.
    :param at: the path of the step.
    """
    if not isinstance(step, EstimatorStep | MpiStep) or step.distribution is None:
        return
    nodes = step.distribution.nodes
    if isinstance(nodes, int) and nodes > 1 and not isinstance(target, KubernetesCompute):
        message = f"is more than the {target.kind} target {target.name} has, which is one machine"
        remedy = "Make it 1, or name a Kubernetes target as compute"
        yield Fault((*at, *count_paths(step)[0]), message, remedy, str(nodes))
    if step.distribution.kind is None and starter is None:
        remedy = f"Write kind: {', '.join(STARTERS[:-1])} or {STARTERS[-1]}"
        yield Fault((*at, "distribution"), "does not say what starts the processes", remedy, at_key=True)
    if isinstance(step, MpiStep) and step.hostfile is not None and isinstance(target, KubernetesCompute):
        message = "means nothing to a Kubernetes target, where the hosts are pods"
        yield Fault((*at, "hostfile"), message, "Leave it out", step.hostfile, at_key=True)
