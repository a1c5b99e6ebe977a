"""Which pod belongs to which step of which run, and what it is supplied with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_mlpipe import __version__
from airflow_mlpipe.naming import label_value, object_name

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGING_IMAGE = f"airflow-mlpipe-step:{__version__}"
"""What `docker/step.Dockerfile` builds; a workspace names it with the registry that a cluster pulls it from."""

CLAIM = "mlpipe/claim"
FINGERPRINT = "mlpipe/fingerprint"
"""The annotations by which whoever finds a pod knows where its result will be."""

ATTEMPT = "mlpipe/attempt"
"""The annotation that counts how often something was begun anew, because others took it away; of the pods of many nodes a
label, too: those of a node that does not answer are still there when others are made."""

CHAIN = "mlpipe/chain"
"""The label that all tries of a task instance have in common, whatever they compute."""

POD = ("v1", "Pod")
JOB = ("batch/v1", "Job")
MPI_JOB = ("kubeflow.org/v2beta1", "MPIJob")
"""What is made for a step: the API and the kind of it."""

_ENVIRONMENT = "-env"
_STAGING = "-staging"
_WORKER = "-worker-9999"
"""How the operator names the pods of an MPIJob, which must be names of hosts."""


@dataclass(frozen=True)
class PodIdentity:
    """The step that a pod runs. Whoever goes on with what was begun under a claim finds the pod by its name.

    ``fingerprint`` and ``claim`` say where the outputs and the result go. ``map_index`` is -1 for a task that is not mapped.
    ``made`` is what is made: a pod, or what makes one for each node.
    """

    pipeline: str
    run: str
    step: str
    fingerprint: str
    claim: str
    map_index: int = -1
    made: tuple[str, str] = POD

    @property
    def name(self) -> str:
        """The name of the pod, or of what makes many: the same for everybody who goes on with what was begun under the claim."""
        return object_name(
            self.step, self.fingerprint, self.claim, room=len(_WORKER if self.made == MPI_JOB else _STAGING)
        )

    @property
    def environment_secret(self) -> str:
        """The name of the short-lived Secret with the user's secret variables."""
        return self.name + _ENVIRONMENT

    @property
    def staging_secret(self) -> str:
        """The name of the short-lived Secret with the credentials of store and datastores."""
        return self.name + _STAGING

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which the pod is found."""
        return {
            "app.kubernetes.io/managed-by": "airflow-mlpipe",
            CHAIN: object_name(self.step, *self._instance),
            "mlpipe/pipeline": label_value(self.pipeline),
            "mlpipe/step": label_value(self.step),
        }

    @property
    def annotations(self) -> dict[str, str]:
        """The same in full, and what was claimed."""
        return {
            "mlpipe/pipeline": self.pipeline,
            "mlpipe/run": self.run,
            "mlpipe/step": self.step,
            FINGERPRINT: self.fingerprint,
            CLAIM: self.claim,
        }

    @property
    def _instance(self) -> tuple[str, str, str]:
        return self.pipeline, self.run, str(self.map_index)


@dataclass(frozen=True)
class Supplies:
    """What a pod needs to know of the world.

    ``store`` is the URL of the output store, ``roots`` those of datastores by name. ``secrets`` and ``credentials``
    say that the short-lived Secrets of `PodIdentity` are there.
    """

    store: str
    roots: Mapping[str, str] = field(default_factory=dict)
    secrets: bool = False
    credentials: bool = False
    checkpoint_seconds: int = 60
