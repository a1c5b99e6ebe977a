"""A step and its compute target as the manifest of a pod; pure, so that tests compare it whole.

::

    mlpipe-stage     init container: fills /mlpipe, and brings a static busybox to /mlpipe/.bin
    mlpipe-publish   native sidecar (Kubernetes 1.29 and later): publishes when the command has ended
    base             the user's image as it is; the busybox runs the command, and waits until it was published

Only the staging containers hold credentials of store and datastores. All containers have one uid, so that whatever mode
a script gives its files, they can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.compute import KubernetesCompute, target_from
from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker.container import INSIDE, is_engine_id, variables
from airflow_mlpipe.launchers.kubernetes.identity import STAGING_IMAGE, PodIdentity, Supplies
from airflow_mlpipe.launchers.kubernetes.template import overlay
from airflow_mlpipe.launchers.kubernetes.volumes import PRIVATE, Json, Volumes
from airflow_mlpipe.runtime.distribution import command_line
from airflow_mlpipe.runtime.pod.wrapper import wrapped
from airflow_mlpipe.store.attempts import ELSEWHERE, without_password

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.runtime.protocol import StepSpec

BASE = "base"
STAGE = "mlpipe-stage"
PUBLISH = "mlpipe-publish"

GRACE = 30
"""Seconds between SIGTERM and SIGKILL, where the template says nothing."""

QUEUE = "kueue.x-k8s.io/queue-name"
_AZURE_IDENTITY = "azure.workload.identity/use"
_SKIPPED = ("eks.amazonaws.com/skip-containers", "azure.workload.identity/skip-containers")
"""The annotations that keep the identities of clouds out of the user's container."""

_USER = "mlpipe"
"""Images do not know the uid, and some programs want to know who they are."""

_STAGING_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def target_of(spec: StepSpec) -> KubernetesCompute:
    """Return the compute target of a step that runs in pods.

    :raises StepError: if it does not.
    """
    target = target_from(spec.target)
    if not isinstance(target, KubernetesCompute):
        message = f"step {spec.step!r} does not run in a pod, but on a target of kind {target.kind}"
        raise StepError(message)
    return target


def pod_for(
    spec: StepSpec, identity: PodIdentity, supplies: Supplies, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the manifest of the pod that runs a step, as plain data.

    The message into the step lies in the store, at `airflow_mlpipe.store.layout.spec`, before the pod is created.

    :param spec: complete; its target is of kind ``kubernetes``.
    :param argv: what its container runs, if that is not the command of the step.
    :raises StepError: if the step has no image that a cluster can pull, or the target gives the user's container what
        it must not have.
    :raises CommandFailedError: if the step has no command.
    """
    target = target_of(spec)
    return _Pod(spec, target, identity, supplies, argv).manifest()


@dataclass(frozen=True)
class _Pod:
    """The parts of one manifest."""

    spec: StepSpec
    target: KubernetesCompute
    identity: PodIdentity
    supplies: Supplies
    argv: Sequence[str] | None

    def manifest(self) -> Json:
        """Return the manifest."""
        self._check()
        ours = {"apiVersion": "v1", "kind": "Pod", "metadata": self._metadata(), "spec": self._spec()}
        return overlay(self.target.pod_template, ours)

    def _check(self) -> None:
        if without_password(self.supplies.store) != self.supplies.store:
            message = f"the store {without_password(self.supplies.store)} has a password in its URL; {ELSEWHERE}"
            raise StepError(message)
        if self._template.get("shareProcessNamespace"):
            message = "pod_template has shareProcessNamespace: a step could end the containers beside it; leave it out"
            raise StepError(message)
        given = {**self.target.pod_template.get("metadata", {}).get("labels", {}), **self.target.labels}
        if given.get(_AZURE_IDENTITY) == "true" and not self.target.accept_pod_identity:
            message = (
                f"the label {_AZURE_IDENTITY} gives the user's container an identity, too; "
                "use staging_token, or say accept_pod_identity: true"
            )
            raise StepError(message)

    def _metadata(self) -> Json:
        labels = {**self.target.labels, **self.identity.labels}
        if self.target.queue is not None:
            labels[QUEUE] = self.target.queue
        annotations = {**self.target.annotations, **self.identity.annotations}
        if self.target.service_account is not None and not self.target.accept_pod_identity:
            annotations |= dict.fromkeys(_SKIPPED, BASE)
        metadata = {"name": self.identity.name, "labels": labels, "annotations": annotations}
        return metadata | ({"namespace": self.target.namespace} if self.target.namespace else {})

    def _spec(self) -> Json:
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": self._grace,
            "securityContext": self._security(),
            "initContainers": [self._stage(), self._publish()],
            "containers": [self._base()],
            "volumes": self._volumes.all(temporary=self._read_only),
        }
        return spec | {name: value for name, value in self._placement().items() if value}

    def _placement(self) -> Json:
        target = self.target
        return {
            "serviceAccountName": target.service_account,
            "imagePullSecrets": [{"name": name} for name in target.image_pull_secrets],
            "nodeSelector": target.node_selector,
            "tolerations": list(target.tolerations),
            "affinity": target.affinity,
            "priorityClassName": target.priority_class,
            "runtimeClassName": target.runtime_class,
        }

    def _security(self) -> Json:
        """Return what a namespace with the restricted policy asks for, unless root is wanted."""
        target = self.target
        context: Json = {
            "runAsUser": target.user,
            "runAsGroup": target.group,
            "fsGroup": target.group if target.fs_group is None else target.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        return context | ({"runAsNonRoot": True} if target.user else {})

    def _container_security(self) -> Json:
        context: Json = {"allowPrivilegeEscalation": False}
        return context | ({"capabilities": {"drop": ["ALL"]}} if self.target.user else {})

    def _base(self) -> Json:
        argv = command_line(self.spec, INSIDE.places(self.spec)) if self.argv is None else self.argv
        container = {
            "name": BASE,
            "image": self._image,
            "command": [_literal(word) for word in wrapped(argv, INSIDE.root, self._time_to_stop)],
            "workingDir": str(INSIDE.code),
            "env": _env(_own_variables(self.spec)),
            "volumeMounts": self._volumes.of_command(temporary=self._read_only),
            "securityContext": self._container_security(),
        }
        if self.supplies.secrets:
            container["envFrom"] = [{"secretRef": {"name": self.identity.environment_secret}}]
        if resources := self.target.container_resources():
            container["resources"] = resources
        return container

    def _stage(self) -> Json:
        return {"name": STAGE, **self._staging("init", sidecar=False)}

    def _publish(self) -> Json:
        return {"name": PUBLISH, "restartPolicy": "Always", **self._staging("sidecar", sidecar=True)}

    def _staging(self, program: str, *, sidecar: bool) -> Json:
        token = self.target.staging_token
        told = {
            "MLPIPE_STORE": self.supplies.store,
            "MLPIPE_FINGERPRINT": self.identity.fingerprint,
            "MLPIPE_CLAIM": self.identity.claim,
            "MLPIPE_STEP_DIRECTORY": str(INSIDE.root),
            "MLPIPE_STAGING": f"{PRIVATE}/mlpipe",
            "MLPIPE_GRACE": str(self._grace),
            "MLPIPE_CACHE": f"{PRIVATE}/cache",
            "HOME": PRIVATE,
            **self._volumes.variables(sidecar=sidecar),
            **(token.variables if token is not None else {}),
        }
        if self.spec.checkpoint and sidecar:
            told["MLPIPE_CHECKPOINT_SECONDS"] = str(self.supplies.checkpoint_seconds)
        container: Json = {
            "image": self.target.staging_image or STAGING_IMAGE,
            "command": ["python", "-m", "airflow_mlpipe.runtime.pod", program],
            "workingDir": PRIVATE,
            "env": _env(told),
            "resources": self._staging_resources(),
            "volumeMounts": self._volumes.of_staging(sidecar=sidecar),
            "securityContext": {**self._container_security(), "readOnlyRootFilesystem": True},
        }
        if self.target.staging_secret is not None:
            container["envFrom"] = [{"secretRef": {"name": self.target.staging_secret}}]
        return container

    def _staging_resources(self) -> Json:
        given = self.target.staging_resources
        asked = {"requests": dict(given.requests), "limits": dict(given.limits)}
        return {name: amounts for name, amounts in asked.items() if amounts} or _STAGING_RESOURCES

    @property
    def _image(self) -> str:
        image = self.spec.environment.image
        if not image:
            unknown = self.spec.environment.unknown or "the environment names none"
            message = f"step {self.spec.step!r} has no image to run: {unknown}"
            raise StepError(message)
        if is_engine_id(image):
            message = (
                f"only a Docker engine has image {image}; push it to a registry that the cluster reaches, "
                "and name it as the registry does"
            )
            raise StepError(message)
        return image

    @cached_property
    def _volumes(self) -> Volumes:
        return Volumes(self.spec, self.target, self.identity, self.supplies)

    @property
    def _template(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.target.pod_template.get("spec", {})
        return found

    @property
    def _grace(self) -> int:
        return int(self._template.get("terminationGracePeriodSeconds", GRACE))

    @property
    def _time_to_stop(self) -> int:
        """How long the command may take to stop: the sidecar needs the rest, most of all for a checkpoint."""
        return max(1, self._grace // 2 if self.spec.checkpoint else self._grace - 5)

    @property
    def _read_only(self) -> bool:
        """Whether the template makes the root of the user's container read-only."""
        containers = self._template.get("containers", ())
        base: Mapping[str, Any] = next((given for given in containers if given.get("name") == BASE), {})
        return bool(base.get("securityContext", {}).get("readOnlyRootFilesystem"))


def _own_variables(spec: StepSpec) -> dict[str, str]:
    """Return the variables of the command; the wrapper puts our PYTHONPATH before the image's own, or the declared one."""
    given = variables(spec)
    declared = spec.environment.variables
    given.pop("PYTHONPATH", None)
    shown = {"PYTHONPATH": declared["PYTHONPATH"]} if "PYTHONPATH" in declared else {}
    return {"USER": _USER, **given, **shown}


def _env(given: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "value": _literal(value)} for name, value in given.items()]


def _literal(text: str) -> str:
    """Return a text as Kubernetes passes it on as it was: it expands ``$(NAME)`` and makes ``$$`` to ``$``."""
    return text.replace("$", "$$")
