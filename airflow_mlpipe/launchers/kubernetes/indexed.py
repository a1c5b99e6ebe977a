"""A step on many nodes as an Indexed Job with a headless service, by which its pods find each other; pure.

Each pod is the one that a step on a single node would have, and its completion index is the number of its node. The sidecar
of node 0 publishes when the others have ended well (`airflow_mlpipe.runtime.pod.nodes`). No pod is begun again by the Job:
ranks that have lost one cannot go on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.launchers.docker.container import INSIDE
from airflow_mlpipe.launchers.kubernetes.members import (
    INDEX,
    base_of,
    container_of,
    containers_with,
    distribution_of,
    metadata_of,
    template_of,
)
from airflow_mlpipe.launchers.kubernetes.pod import BASE, PUBLISH, pod_for, target_of
from airflow_mlpipe.launchers.kubernetes.secrets import owned_by
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.distribution import of_rank

if TYPE_CHECKING:
    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity, Supplies
    from airflow_mlpipe.runtime.protocol import DistributionSpec, StepSpec

Json = dict[str, Any]

PORT = 29500
"""Where node 0 listens for the others: the port that torchrun uses."""

_UID = "batch.kubernetes.io/controller-uid"
_NODE = "@MLPIPE_NODE@"
_EXPANDED = "$(JOB_COMPLETION_INDEX)"
"""Kubernetes puts the value of a variable of the container in its place."""


def job_for(spec: StepSpec, identity: PodIdentity, supplies: Supplies) -> Json:
    """Return the manifest of the Job that runs a step on many nodes, as plain data.

    :raises StepError: if the step cannot run so; it says what to do.
    :raises CommandFailedError: if the step has no command.
    """
    target = target_of(spec)
    given = distribution_of(spec, target)
    pod = pod_for(spec, identity, supplies, _argv(spec, given, identity.name))
    template = template_of(pod)
    inside = template["spec"]
    inside["subdomain"] = identity.name
    inside["containers"] = containers_with(inside["containers"], BASE, **_base(base_of(pod), given, identity.name))
    inside["initContainers"] = containers_with(
        inside["initContainers"], PUBLISH, env=_told(container_of(pod, PUBLISH)["env"], given.nodes)
    )
    version, kind = identity.made
    job = {
        "completionMode": "Indexed",
        "completions": given.nodes,
        "parallelism": given.nodes,
        "backoffLimit": 0,
        "template": template,
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata_of(pod), "spec": job}


def service_for(identity: PodIdentity, owner: str) -> Json:
    """Return the service that gives the pods of a Job names, also before they are ready.

    :param owner: the uid of the Job, with which it goes.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": identity.name, "labels": identity.labels, "ownerReferences": [owned_by(identity, owner)]},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {_UID: owner}},
    }


def _argv(spec: StepSpec, given: DistributionSpec, name: str) -> list[str]:
    """Return what each node runs; the number of the node is put in by Kubernetes."""
    argv = command.arguments(spec, INSIDE.places(spec))
    if given.kind == "tensorflow":
        return argv
    if given.kind != "torchrun":
        message = f"a distribution of kind {given.kind!r} is unknown; a newer airflow-mlpipe may have written it"
        raise CommandFailedError(message)
    python = command.interpreter(spec)
    start = [
        *(python, "-m", "torch.distributed.run"),
        f"--nnodes={given.nodes}",
        f"--nproc_per_node={given.processes}",
        f"--node_rank={_NODE}",
        f"--master_addr={_host(name, 0)}",
        f"--master_port={PORT}",
        "--monitor_interval=0.1",
        *given.options,
    ]
    rank = of_rank(argv, spec)
    return [*start, *rank[1:]] if rank[:2] == [python, "-m"] else [*start, "--no-python", *rank]


def _host(name: str, node: int) -> str:
    """Return the name of the host that a pod is, which its service and that of the Job make."""
    return f"{name}-{node}.{name}"


def _base(base: Json, given: DistributionSpec, name: str) -> Json:
    """Return what is different in the container of the command."""
    env = [_index("JOB_COMPLETION_INDEX"), *base["env"]]
    if given.kind == "tensorflow":
        hosts = [f"{_host(name, node)}:{PORT}" for node in range(given.nodes)]
        told = json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": 0}})
        env.append({"name": "TF_CONFIG", "value": told.replace('"index": 0', f'"index": {_EXPANDED}')})
        env.append({"name": "MLPIPE_RANK", "value": _EXPANDED})
    return {"command": [word.replace(_NODE, _EXPANDED) for word in base["command"]], "env": env}


def _told(env: list[Json], nodes: int) -> list[Json]:
    """Return what the sidecar is told: which node it is of, and of how many, begun by which Job."""
    attempt = {"name": "MLPIPE_ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{_UID}']"}}}
    return [*env, _index("MLPIPE_NODE"), {"name": "MLPIPE_NODES", "value": str(nodes)}, attempt]


def _index(name: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}}
