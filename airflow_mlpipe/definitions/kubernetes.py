"""`KubernetesCompute`: pods of a Kubernetes cluster."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, StrictBool

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.amounts import Cpus, Memory, Quantity, amount_of
from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.docker import target_faults
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, shown
from airflow_mlpipe.definitions.imagebuild import image_remedy
from airflow_mlpipe.definitions.values import Count, Duration, InsidePath

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAME_REMEDY = "Use at most 63 lower-case letters, digits and '-', with a letter or digit at both ends"
_RESOURCE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_BUILT_IN = ("cpu", "memory", "ephemeral-storage")

GPU_RESOURCE = "nvidia.com/gpu"


class KubernetesResources(Definition):
    """What a container asks for and what it gets at most, as in a pod."""

    requests: dict[str, Quantity] = Field(default_factory=dict)
    """What a node must have free: `{cpu: 500m, memory: 4Gi, ephemeral-storage: 20Gi}`."""
    limits: dict[str, Quantity] = Field(default_factory=dict)
    """What it gets at most: `{memory: 4Gi, nvidia.com/gpu: 1}`."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        for field in ("requests", "limits"):
            yield from self._name_faults(field)
        for name in self.requests.keys() & self.limits.keys():
            if amount_of(self.requests[name]) > amount_of(self.limits[name]):
                remedy = "Ask for no more than the limit"
                given = f"{self.requests[name]}, limit {self.limits[name]}"
                yield Fault(("requests", name), "is more than its limit", remedy, given)

    def _name_faults(self, field: str) -> Iterable[Fault]:
        for name in getattr(self, field):
            if name in _BUILT_IN or ("/" in name and _RESOURCE.match(name)) or name.startswith("hugepages-"):
                continue
            remedy = f"{did_you_mean(name, _BUILT_IN)}; devices have a domain, as in nvidia.com/gpu"
            yield Fault((field, name), "is no resource of a pod", remedy, shown(name), at_key=True)


class KubernetesVolume(Definition):
    """A volume of the pod; the user's container sees it where it has a `mount_path`."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key."""
    mount_path: str | None = None
    """Where the container sees it; a volume that only holds datastores needs none."""
    sub_path: InsidePath | None = None
    """The folder of the volume that is mounted there."""
    read_only: StrictBool = True
    """Whether the container may not write there."""
    pvc: str | None = None
    """The name of a persistent volume claim."""
    csi: dict[str, Any] | None = None
    """A CSI volume source, as in a pod: `{driver: ..., volumeAttributes: {...}}`."""
    source: dict[str, Any] | None = None
    """Any other volume source, as in a pod: `{nfs: {server: ..., path: ...}}`."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        given = [field for field in ("pvc", "csi", "source") if getattr(self, field) is not None]
        if len(given) != 1:
            message = "says nowhere what it is" if not given else "says twice what it is"
            yield Fault((), message, "Give one of pvc, csi and source", ", ".join(given))
        if self.source is not None and len(self.source) != 1:
            remedy = "Give one, for example {nfs: {server: nas, path: /data}}"
            yield Fault(("source",), "must hold one volume source", remedy, ", ".join(map(str, self.source)))
        if self.name is not None and not _NAME.match(self.name):
            yield Fault((), "cannot be the name of a volume", _NAME_REMEDY, shown(self.name), at_key=True)
        if self.mount_path is not None:
            yield from target_faults(self.mount_path, ("mount_path",))

    @property
    def volume_source(self) -> dict[str, Any]:
        """What the volume is, as it stands in a pod beside its name."""
        if self.pvc is not None:
            return {"persistentVolumeClaim": {"claimName": self.pvc}}
        return {"csi": self.csi} if self.csi is not None else dict(self.source or {})


class DatastoreVolume(Definition):
    """Where a datastore's root lies in a volume of the pod, so that it is mounted instead of copied."""

    volume: str
    """The name of a volume of the target."""
    sub_path: InsidePath | None = None
    """The folder of the volume that is the root of the datastore."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow the name of the volume alone."""
        return {"volume": data} if isinstance(data, str) else data


class WorkVolume(Definition):
    """The volume that holds the step directory: of the node, or of a storage class, or a claim that is there."""

    size: Memory | None = None
    """At most so much; a storage class needs it."""
    storage_class: str | None = None
    """Makes a claim of that class for the time of the pod."""
    pvc: str | None = None
    """A claim that is there already; each step uses a folder of it and removes it."""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if self.pvc is not None and (self.size is not None or self.storage_class is not None):
            yield Fault(("pvc",), "is given beside size or storage_class", "Keep one of them", at_key=True)
        if self.storage_class is not None and self.size is None:
            yield Fault(("storage_class",), "is given without size", "Give size, for example 50Gi", at_key=True)


class StagingToken(Definition):
    """A token of the pod's service account that only the staging containers get, to exchange for the store's credentials."""

    audience: str
    """For whom it is: `sts.amazonaws.com`, for example."""
    path: str = "/var/run/secrets/mlpipe/token"
    """The file that holds it."""
    expires: Duration = timedelta(hours=1)
    """How long it is valid; it is renewed in time."""
    variables: dict[str, str] = Field(default_factory=dict)
    """What else tells the storage's library: `{AWS_ROLE_ARN: ..., AWS_WEB_IDENTITY_TOKEN_FILE: /var/run/secrets/mlpipe/token}`."""


def _cluster_image_remedy(name: str) -> str:
    if name.startswith("sha256:"):
        return "That is the id of an image in an engine, which a cluster cannot pull: name it by its registry"
    return image_remedy(name)


def _volumes(value: object) -> object:
    """Take a mapping by name, or a list whose items say their names."""
    if isinstance(value, list | tuple):
        named = {(item.get("name") if isinstance(item, dict) else getattr(item, "name", None)): item for item in value}
        if len(named) != len(value) or not all(isinstance(name, str) for name in named):
            return value
        value = named
    return ports.each(value, _volume)


def _volume(value: object, name: str) -> object:
    if isinstance(value, KubernetesVolume):
        return value.model_copy(update={"name": name})
    return build(KubernetesVolume, {**value, "name": name}) if isinstance(value, dict) else value


def _datastores(value: object) -> object:
    return ports.each(value, lambda item, _: build(DatastoreVolume, item))


class KubernetesCompute(Definition):
    """A pod of a Kubernetes cluster."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    kind: Literal["kubernetes"] = "kubernetes"
    environment: str | None = None
    """The name of the environment of steps that run here, where neither step nor pipeline names one."""
    connection: str | None = None
    """The id of the Airflow connection of the cluster."""
    namespace: str | None = None
    """Where pods are made; the connection's where it is not given."""
    service_account: str | None = None
    """The account the pod runs under. The user's container gets no token of it."""
    image: str | None = None
    """For steps whose environment names none."""
    image_pull_secrets: tuple[str, ...] = ()
    """The names of Secrets with the logins of registries."""
    registry: str | None = None
    """The id of the Airflow connection (of type docker) with the login of the registry, to find out the digests of images whose environment names no `registry`."""
    resources: KubernetesResources = Field(default_factory=KubernetesResources)
    """As in a container: `{requests: {cpu: 1}, limits: {memory: 4Gi}}`."""
    cpus: Cpus | None = None
    """Short for a request and a limit of cpu."""
    memory: Memory | None = None
    """Short for a request and a limit of memory."""
    gpus: Count | None = None
    """How many GPUs the container gets: short for a limit of `gpu_resource`."""
    gpu_resource: str = GPU_RESOURCE
    """What nodes call a GPU: `nvidia.com/gpu`, `amd.com/gpu`, `nvidia.com/mig-1g.10gb`, ..."""
    shm_size: Memory | None = None
    """The size of `/dev/shm`, which data loaders of several processes need."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """The labels a node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """As in a pod: the taints of nodes that do not matter."""
    affinity: dict[str, Any] = Field(default_factory=dict)
    """As in a pod."""
    priority_class: str | None = None
    """The name of a PriorityClass."""
    runtime_class: str | None = None
    """The name of a RuntimeClass, such as `nvidia` or `gvisor`."""
    volumes: Annotated[
        dict[str, KubernetesVolume],
        BeforeValidator(_volumes, json_schema_input_type=dict[str, KubernetesVolume] | list[KubernetesVolume]),
    ] = Field(default_factory=dict)
    """Volumes by name: `{data: {pvc: datasets, mount_path: /data}}`."""
    datastores: Annotated[
        dict[str, DatastoreVolume],
        BeforeValidator(_datastores, json_schema_input_type=dict[str, DatastoreVolume | str]),
    ] = Field(default_factory=dict)
    """Datastores that lie in a volume: inputs from them with `mode: mount` are mounted instead of copied."""
    work_volume: WorkVolume = Field(default_factory=WorkVolume)
    """The volume that holds the step directory; the node's own disk where it is not given."""
    user: Count = 1000
    """The uid of all containers of the pod."""
    group: Count = 1000
    """The gid of all containers of the pod."""
    fs_group: Count | None = None
    """The group that owns the volumes; `group` where it is not given."""
    queue: str | None = None
    """The Kueue queue."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Further labels of the pod."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Further annotations of the pod."""
    pod_template: dict[str, Any] = Field(default_factory=dict)
    """A pod with anything else; what is said here and by the fields above is taken from the fields."""
    deferrable: StrictBool = True
    """Whether a running pod is waited for by the triggerer, holding no worker slot."""
    pending_timeout: Duration = timedelta(minutes=10)
    """The time after which a pod that does not start is given up."""
    staging_image: str | None = None
    """The image of the containers that bring inputs and publish outputs; this project's own of the same version where it is not given."""
    staging_secret: str | None = None
    """The name of a Secret with the store's credentials as variables; only the staging containers get it."""
    staging_token: StagingToken | None = None
    """A token of the service account that only the staging containers get, instead of a secret."""
    staging_resources: KubernetesResources = Field(default_factory=KubernetesResources)
    """What the staging containers ask for and get at most."""
    accept_pod_identity: StrictBool = False
    """Accepts an identity that all containers of the pod have, the user's too: the service account of a cloud's workload identity."""
    description: str = ""

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if not _RESOURCE.match(self.gpu_resource) or "/" not in self.gpu_resource:
            remedy = "Write domain/name, as in nvidia.com/gpu"
            yield Fault(("gpu_resource",), "is no name of a device", remedy, shown(self.gpu_resource))
        if self.namespace is not None and not _NAME.match(self.namespace):
            yield Fault(("namespace",), "cannot be the name of a namespace", _NAME_REMEDY, shown(self.namespace))
        for field in ("image", "staging_image"):
            name = getattr(self, field)
            if name is not None and (remedy := _cluster_image_remedy(name)):
                yield Fault((field,), "is no name of an image", remedy, shown(name))
        for name, place in self.datastores.items():
            if place.volume not in self.volumes:
                remedy = did_you_mean(place.volume, self.volumes)
                yield Fault(("datastores", name, "volume"), "is none of the volumes", remedy, shown(place.volume))
        yield from self._shorthand_faults()
        yield from self._identity_faults()

    def _shorthand_faults(self) -> Iterable[Fault]:
        for field, resource in (("cpus", "cpu"), ("memory", "memory"), ("gpus", self.gpu_resource)):
            both = resource in self.resources.requests or resource in self.resources.limits
            if getattr(self, field) is not None and both:
                message = f"is given beside {resource} in resources"
                yield Fault((field,), message, "Keep one of them", shown(getattr(self, field)), at_key=True)

    def _identity_faults(self) -> Iterable[Fault]:
        if self.staging_token is not None and self.staging_secret is not None:
            message = "is given beside staging_secret"
            yield Fault(("staging_token",), message, "Keep one of them", at_key=True)
        if self.staging_token is not None and self.service_account is None:
            remedy = "Name the account whose token it is"
            yield Fault(("staging_token",), "is given without service_account", remedy, at_key=True)

    def container_resources(self) -> dict[str, dict[str, str]]:
        """Return `resources` and what is short for some of it, as it stands in a container."""
        requests, limits = dict(self.resources.requests), dict(self.resources.limits)
        if self.cpus is not None:
            requests["cpu"] = limits["cpu"] = f"{self.cpus:.3f}".rstrip("0").rstrip(".")
        if self.memory is not None:
            requests["memory"] = limits["memory"] = self.memory
        if self.gpus:
            limits[self.gpu_resource] = str(self.gpus)
        return {name: given for name, given in (("requests", requests), ("limits", limits)) if given}
