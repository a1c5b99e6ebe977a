"""Compute targets: where a step runs, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, ValidationError

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.docker import DockerCompute, DockerMount, DockerTls
from airflow_mlpipe.definitions.faults import Fault, Refused, did_you_mean, faults_of, refuse, shown
from airflow_mlpipe.definitions.kubernetes import (
    DatastoreVolume,
    KubernetesCompute,
    KubernetesResources,
    KubernetesVolume,
    StagingToken,
    WorkVolume,
)

__all__ = [
    "KINDS",
    "RESOURCES",
    "AnyCompute",
    "ComputeTarget",
    "DatastoreVolume",
    "DockerCompute",
    "DockerMount",
    "DockerTls",
    "KubernetesCompute",
    "KubernetesResources",
    "KubernetesVolume",
    "LocalCompute",
    "StagingToken",
    "WorkVolume",
    "compute_target",
    "resource_faults",
    "target_from",
    "with_resources",
]


class LocalCompute(Definition):
    """A process on the worker."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["local"] = "local"
    environment: str | None = None
    """The name of the environment of steps that run here, where neither step nor pipeline names one."""
    description: str = ""


AnyCompute: TypeAlias = LocalCompute | DockerCompute | KubernetesCompute
ComputeTarget: TypeAlias = Annotated[AnyCompute, Field(discriminator="kind")]

KINDS: dict[str, type[LocalCompute | DockerCompute | KubernetesCompute]] = {
    "local": LocalCompute,
    "docker": DockerCompute,
    "kubernetes": KubernetesCompute,
}

RESOURCES: dict[str, tuple[str, ...]] = {
    "local": (),
    "docker": ("cpus", "memory", "shm_size", "gpus"),
    "kubernetes": ("cpus", "memory", "shm_size", "gpus", "requests", "limits"),
}
"""What a step may ask of a target, by the target's kind."""

_SHORT = {"cpus": "cpu", "memory": "memory"}


def compute_target(value: object, name: str) -> AnyCompute:
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


def target_from(data: Mapping[str, Any]) -> AnyCompute:
    """Return the target of a `StepSpec`, whose ``target`` is plain data; an empty one stands for a local target.

    :raises Refused: (a ValueError) if it is damaged.
    """
    return build(KINDS[data["kind"]], data) if data else LocalCompute()


def with_resources(target: AnyCompute, resources: Mapping[str, Any]) -> AnyCompute:
    """Return a target with what a step asks of it in the place of what the target says itself.

    :raises Refused: (a ValueError) if it has no such resource, or the amount is none.
    """
    if not resources:
        return target
    allowed = RESOURCES[target.kind]
    if unknown := [name for name in resources if name not in allowed]:
        raise Refused([_unknown(name, target.kind) for name in unknown])
    fields = {name: getattr(target, name) for name in type(target).model_fields}
    fields |= {name: value for name, value in resources.items() if name not in {"requests", "limits"}}
    if isinstance(target, KubernetesCompute):
        fields["resources"] = _resources(target, resources)
        _forget_short(target, fields, resources)
    return build(type(target), fields)


def _resources(target: KubernetesCompute, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return requests and limits of a target, without those that a step gives in short, and with its own."""
    short = {_SHORT.get(name, target.gpu_resource) for name in asked if name in {*_SHORT, "gpus"}}
    merged = {}
    for name in ("requests", "limits"):
        own = asked.get(name, {})
        if not isinstance(own, Mapping):
            raise Refused([Fault((name,), "must be a mapping of names to amounts", "Write {cpu: 1}", shown(own))])
        kept = {key: value for key, value in getattr(target.resources, name).items() if key not in short}
        merged[name] = {**kept, **own}
    return merged


def _forget_short(target: KubernetesCompute, fields: dict[str, Any], asked: Mapping[str, Any]) -> None:
    """Leave out what a target says in short where a step says it in full."""
    full = {key for name in ("requests", "limits") for key in asked.get(name, {})}
    for name, key in (*_SHORT.items(), ("gpus", target.gpu_resource)):
        if key in full and name not in asked:
            fields[name] = None


def resource_faults(target: AnyCompute, resources: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Return what is wrong with what a step asks of a target, each by the name of the resource."""
    try:
        with_resources(target, resources)
    except (Refused, ValidationError) as error:
        return tuple(_as_asked(fault) for fault in faults_of(error))
    return ()


def _as_asked(fault: Fault) -> Fault:
    """Return a fault of a target as one of what was asked: `resources.requests` is `requests` there."""
    return replace(fault, path=fault.path[1:]) if fault.path[:1] == ("resources",) else fault


def _unknown(name: str, kind: str) -> Fault:
    allowed = RESOURCES[kind]
    remedy = did_you_mean(name, allowed) if allowed else "Leave it out"
    return Fault((name,), f"is nothing that a {kind} target provides", remedy, shown(name), at_key=True)
