"""The volumes of a pod, and who sees which of them where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.docker.container import INSIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.compute import KubernetesCompute
    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity, Supplies
    from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec

WORK = "mlpipe-work"
STAGING = "mlpipe-staging"
CREDENTIALS = "mlpipe-credentials"
TOKEN = "mlpipe-token"  # noqa: S105 -- the name of a volume
SECRETS = "mlpipe-secrets"
SHM = "mlpipe-shm"
TEMPORARY = "mlpipe-tmp"

PRIVATE = "/tmp"  # noqa: S108 -- a volume that only the staging containers have
CREDENTIALS_AT = "/mlpipe-credentials"
SECRETS_AT = "/mlpipe-secrets"
DATA_AT = "/mlpipe-data"
WHOLE_CLAIM_AT = "/mlpipe-volume"

_OWNER_AND_GROUP = 0o440

Json = dict[str, Any]


@dataclass(frozen=True)
class Mounted:
    """An input that is mounted where it lies: ``path`` is its place in the volume."""

    name: str
    volume: str
    path: str

    @property
    def seen_by_staging(self) -> str:
        """Where the staging containers see it."""
        return f"{DATA_AT}/{self.volume}/{self.path}".rstrip("/")


@dataclass(frozen=True)
class Volumes:
    """The volumes of one pod."""

    spec: StepSpec
    target: KubernetesCompute
    identity: PodIdentity
    supplies: Supplies

    def all(self, *, temporary: bool) -> list[Json]:
        """Return every volume of the pod.

        :param temporary: whether the user's container needs a writable ``/tmp``.
        """
        volumes = [{"name": WORK, **self._work()}, {"name": STAGING, "emptyDir": {}}]
        if sources := self._credentials():
            projected = {"defaultMode": _OWNER_AND_GROUP, "sources": sources}
            volumes.append({"name": CREDENTIALS, "projected": projected})
        if self.target.staging_token is not None:
            volumes.append({"name": TOKEN, "projected": {"sources": [{"serviceAccountToken": self._token()}]}})
        if self.supplies.secrets:
            secret = {"secretName": self.identity.environment_secret, "defaultMode": _OWNER_AND_GROUP}
            volumes.append({"name": SECRETS, "secret": secret})
        if self.target.shm_size is not None:
            volumes.append({"name": SHM, "emptyDir": {"medium": "Memory", "sizeLimit": self.target.shm_size}})
        if temporary:
            volumes.append({"name": TEMPORARY, "emptyDir": {}})
        used = {mounted.volume for mounted in self.mounted}
        for name, volume in self.target.volumes.items():
            if volume.mount_path is not None or name in used:
                volumes.append({"name": name, **volume.volume_source})
        return volumes

    def of_command(self, *, temporary: bool) -> list[Json]:
        """Return what the user's container sees: its step directory, with inputs that nobody can write to."""
        inputs = self._in_work(str(INSIDE.inputs), "inputs") | {"readOnly": True}
        mounts = [self._in_work(str(INSIDE.root)), inputs]
        for mounted in self.mounted:
            place = {"name": mounted.volume, "mountPath": str(INSIDE.inputs / mounted.name), "readOnly": True}
            mounts.append(place | ({"subPath": mounted.path} if mounted.path else {}))
        if self.target.shm_size is not None:
            mounts.append({"name": SHM, "mountPath": "/dev/shm"})  # noqa: S108 -- a volume
        if temporary:
            mounts.append({"name": TEMPORARY, "mountPath": "/tmp"})  # noqa: S108 -- a volume
        for name, volume in self.target.volumes.items():
            if volume.mount_path is not None:
                place = {"name": name, "mountPath": volume.mount_path}
                place |= {"readOnly": True} if volume.read_only else {}
                mounts.append(place | ({"subPath": volume.sub_path} if volume.sub_path else {}))
        return mounts

    def of_staging(self, *, sidecar: bool) -> list[Json]:
        """Return what a staging container sees."""
        mounts = [self._in_work(str(INSIDE.root)), {"name": STAGING, "mountPath": PRIVATE}]
        if self._credentials():
            mounts.append({"name": CREDENTIALS, "mountPath": CREDENTIALS_AT, "readOnly": True})
        if self.target.staging_token is not None:
            folder = str(PurePosixPath(self.target.staging_token.path).parent)
            mounts.append({"name": TOKEN, "mountPath": folder, "readOnly": True})
        if self.supplies.secrets and sidecar:
            mounts.append({"name": SECRETS, "mountPath": SECRETS_AT, "readOnly": True})
        if self.target.work_volume.pvc is not None and sidecar:
            mounts.append({"name": WORK, "mountPath": WHOLE_CLAIM_AT})
        names = dict.fromkeys(mounted.volume for mounted in self.mounted)
        return mounts + [{"name": name, "mountPath": f"{DATA_AT}/{name}", "readOnly": True} for name in names]

    def variables(self, *, sidecar: bool) -> dict[str, str]:
        """Return what tells a staging container of its volumes."""
        given = {"MLPIPE_CREDENTIALS": CREDENTIALS_AT} if self._credentials() else {}
        if self.supplies.secrets and sidecar:
            given["MLPIPE_SECRETS"] = SECRETS_AT
        if self.mounted:
            given["MLPIPE_MOUNTED"] = json.dumps({mounted.name: mounted.seen_by_staging for mounted in self.mounted})
        if self.target.work_volume.pvc is not None and sidecar:
            given["MLPIPE_REMOVE"] = f"{WHOLE_CLAIM_AT}/{self.identity.name}"
        return given

    @cached_property
    def mounted(self) -> tuple[Mounted, ...]:
        """The inputs that lie in a volume of the pod and are mounted from there."""
        return tuple(self._mounted())

    def _mounted(self) -> Iterator[Mounted]:
        for name, bound in self.spec.inputs.items():
            place = self.target.datastores.get(bound.datastore or "")
            path = self._below_root(bound)
            if place is not None and path is not None and bound.mode == "mount" and not bound.files:
                yield Mounted(name, place.volume, "/".join(filter(None, (place.sub_path, path))))

    def _below_root(self, bound: InputSpec) -> str | None:
        root = self.supplies.roots.get(bound.datastore or "", "").rstrip("/")
        if not root or bound.uri is None or not f"{bound.uri}/".startswith(f"{root}/"):
            return None
        return bound.uri[len(root) :].strip("/")

    def _in_work(self, path: str, folder: str = "") -> Json:
        own = self.identity.name if self.target.work_volume.pvc is not None else ""
        inside = "/".join(filter(None, (own, folder)))
        return {"name": WORK, "mountPath": path} | ({"subPath": inside} if inside else {})

    def _work(self) -> Json:
        work = self.target.work_volume
        if work.pvc is not None:
            return {"persistentVolumeClaim": {"claimName": work.pvc}}
        if work.storage_class is None:
            return {"emptyDir": {"sizeLimit": work.size} if work.size else {}}
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": work.storage_class,
            "resources": {"requests": {"storage": work.size}},
        }
        return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}

    def _credentials(self) -> list[Json]:
        names = [self.target.staging_secret, self.identity.staging_secret if self.supplies.credentials else None]
        return [{"secret": {"name": name}} for name in names if name]

    def _token(self) -> Json:
        token = self.target.staging_token
        if token is None:
            return {}
        expires = max(600, int(token.expires.total_seconds()))  # the least that Kubernetes accepts
        return {"audience": token.audience, "expirationSeconds": expires, "path": PurePosixPath(token.path).name}
