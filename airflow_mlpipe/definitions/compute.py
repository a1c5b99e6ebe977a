"""Compute targets: where a step runs, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.faults import did_you_mean, refuse
from airflow_mlpipe.definitions.values import Count


class LocalCompute(Definition):
    """A process on the worker."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["local"] = "local"
    description: str = ""


class DockerCompute(Definition):
    """A container of a Docker engine."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["docker"] = "docker"
    connection: str | None = None
    """The id of the Airflow connection of the registry."""
    host: str | None = None
    """The engine, for example `tcp://build:2376`; the worker's own where it is not given."""
    image: str | None = None
    """For steps whose environment names none."""
    network: str | None = None
    cpus: float | None = None
    memory: str | None = None
    """For example `4Gi`."""
    gpus: Count | None = None
    """How many the container gets."""
    description: str = ""


class KubernetesCompute(Definition):
    """A pod of a Kubernetes cluster."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["kubernetes"] = "kubernetes"
    connection: str | None = None
    """The id of the Airflow connection of the cluster."""
    namespace: str | None = None
    image: str | None = None
    """For steps whose environment names none."""
    service_account: str | None = None
    """The account the pod runs under."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """The labels a node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """As in a pod: the taints of nodes that do not matter."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """As in a container: `{requests: {cpu: 1}, limits: {nvidia.com/gpu: 1}}`."""
    queue: str | None = None
    """The Kueue queue."""
    description: str = ""


ComputeTarget: TypeAlias = Annotated[LocalCompute | DockerCompute | KubernetesCompute, Field(discriminator="kind")]

KINDS: dict[str, type[LocalCompute | DockerCompute | KubernetesCompute]] = {
    "local": LocalCompute,
    "docker": DockerCompute,
    "kubernetes": KubernetesCompute,
}

WORKING = ("local",)
"""The kinds of targets that this version can run steps on."""


def compute_target(value: object, name: str) -> LocalCompute | DockerCompute | KubernetesCompute:
    """Return the target that plain data stands for, named by its key.

    :raises Refused: (a ValueError) if its kind is none.
    """
    if isinstance(value, LocalCompute | DockerCompute | KubernetesCompute):
        return value.model_copy(update={"name": name})
    if not isinstance(value, Mapping):
        message = "must be a mapping of fields to values"
        raise refuse(message, "Write {kind: local}", value)
    kind = value.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return build(KINDS[kind], {**value, "name": name})
    message = "is missing" if kind is None else "is no kind of compute target"
    raise refuse(message, did_you_mean(kind, KINDS), kind, ("kind",))
