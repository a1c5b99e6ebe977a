"""The pods of the nodes of one step: what all of them have in common, and who is who among those that are there; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.identity import ATTEMPT
from airflow_mlpipe.launchers.kubernetes.pod import BASE, QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_mlpipe.definitions.compute import KubernetesCompute
    from airflow_mlpipe.runtime.protocol import DistributionSpec, StepSpec

Json = dict[str, Any]

WORK = "mlpipe/work"
"""The label of all pods of one step on many nodes: the name of what makes them."""

INDEX = "batch.kubernetes.io/job-completion-index"
_ROLE = "training.kubeflow.org/job-role"
_REPLICA = "training.kubeflow.org/replica-index"


def distribution_of(spec: StepSpec, target: KubernetesCompute) -> DistributionSpec:
    """Return how a step is spread over nodes.

    :raises StepError: if it cannot be on a cluster; it says what to do.
    """
    given = spec.distribution
    if given is None:
        message = f"step {spec.step!r} has no distribution"
        raise StepError(message)
    wrong = None
    if given.outputs == "each" and spec.outputs:
        wrong = "outputs_of is each, and the ranks of many nodes share no folder; use first, and gather them in rank 0"
    elif target.work_volume.pvc is not None:
        wrong = (
            "the work_volume of the target is one folder of a claim, which all nodes would fill; use a storage_class"
        )
    elif given.kind == "tensorflow" and given.processes > 1:
        wrong = "a worker of TensorFlow uses all GPUs of its node; make processes_per_node 1"
    elif given.kind == "tensorflow" and given.options:
        wrong = f"nothing starts the workers of TensorFlow, so nothing takes the options {' '.join(given.options)}; leave them out"
    if wrong:
        message = f"step {spec.step!r} cannot run on {given.nodes} nodes of a cluster: {wrong}"
        raise StepError(message)
    return given


def metadata_of(pod: Mapping[str, Any]) -> Json:
    """Return the metadata of what makes pods, after those of one of them."""
    return dict(pod["metadata"])


def template_of(pod: Mapping[str, Any]) -> Json:
    """Return a pod as what makes pods has it in it: without a name, and not in a queue by itself."""
    metadata = pod["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key != QUEUE} | {WORK: metadata["name"]}
    return {"metadata": {"labels": labels, "annotations": dict(metadata["annotations"])}, "spec": dict(pod["spec"])}


def mark(manifest: Mapping[str, Any], attempt: int) -> None:
    """Write into the manifest of what makes pods, and into those of its pods, for which time they are begun."""
    spec = manifest["spec"]
    makers = spec["mpiReplicaSpecs"].values() if "mpiReplicaSpecs" in spec else [spec]
    manifest["metadata"]["annotations"][ATTEMPT] = str(attempt)
    for maker in makers:
        maker["template"]["metadata"]["labels"][ATTEMPT] = str(attempt)


def selector(name: str, attempt: int | None = None) -> str:
    """Return what selects the pods of one step, or those that were begun for one time.

    :param name: that of what makes them.
    """
    return f"{WORK}={name}" + ("" if attempt is None else f",{ATTEMPT}={attempt}")


def containers_with(containers: Iterable[Mapping[str, Any]], name: str, **changed: object) -> list[Json]:
    """Return containers with some fields of one of them changed."""
    return [dict(given, **changed) if given["name"] == name else dict(given) for given in containers]


def container_of(pod: Mapping[str, Any], name: str) -> Json:
    """Return a container of the spec of a pod, or of a template of one."""
    return dict(next(given for given in _all(pod["spec"]) if given["name"] == name))


def _all(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def node_of(pod: Mapping[str, Any]) -> int:
    """Return the number of the node that a pod is: 0 for the one whose outputs count."""
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    if INDEX in annotations or INDEX in labels:
        return int(annotations.get(INDEX) or labels[INDEX])
    if labels.get(_ROLE) == "launcher":
        return 0
    return int(labels.get(_REPLICA) or 0)


def called(pod: Mapping[str, Any]) -> str:
    """Return how a node is called to people."""
    return f"node {node_of(pod)} (the pod {pod['metadata']['name']})"


def is_worker(pod: Mapping[str, Any]) -> bool:
    """Say whether a pod waits for ssh, so that its own end says nothing of the command."""
    return (pod["metadata"].get("labels") or {}).get(_ROLE) == "worker"


def first_of(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the newest pod of the node whose outputs count; None if there is none yet."""
    found = [pod for pod in pods if not is_worker(pod) and node_of(pod) == 0]
    return max(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), default=None)


def base_of(template: Mapping[str, Any]) -> Json:
    """Return the container of the command."""
    return container_of(template, BASE)
