"""What makes the pods of a step on many nodes, at a cluster: an Indexed Job or an MPIJob, by the provider's hook."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes import refusals
from airflow_mlpipe.launchers.kubernetes.cluster import WATCH_SECONDS, patiently, plain
from airflow_mlpipe.launchers.kubernetes.identity import MPI_JOB
from airflow_mlpipe.launchers.kubernetes.members import selector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.launchers.kubernetes.cluster import Cluster
    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity

Json = dict[str, Any]

_PLURALS = {"Job": "jobs", "MPIJob": "mpijobs"}
_NO_OPERATOR = (
    "cannot create the MPIJob {name}: the cluster knows no MPIJob of kubeflow.org/v2beta1; install Kubeflow's MPI operator "
    "(https://github.com/kubeflow/mpi-operator), or run the step on one node, or with a distribution of kind torchrun"
)
_OLD_OPERATOR = (
    "the MPI operator of the cluster does not know runLauncherAsWorker; install version 0.6 of it, or a later one"
)


class Group:
    """One Job or MPIJob of a namespace, with its pods."""

    def __init__(self, cluster: Cluster, identity: PodIdentity) -> None:
        self._cluster = cluster
        self._identity = identity

    @property
    def called(self) -> str:
        """How it is called to people."""
        return f"the {self._identity.made[1]} {self._identity.name}"

    @property
    def place(self) -> dict[str, str]:
        """Where the API of the cluster has it."""
        group, _, version = self._identity.made[0].partition("/")
        plural = _PLURALS[self._identity.made[1]]
        return {"group": group, "version": version, "namespace": self._cluster.namespace, "plural": plural}

    @cached_property
    def _api(self) -> Any:  # noqa: ANN401 -- the client is not typed
        with refusals.said("connect to the cluster"):
            return self._cluster.hook.custom_object_client

    def create(self, manifest: Mapping[str, Any]) -> Json:
        """Create it and return it; where it is there already, return that.

        :raises StepError: if the cluster has no operator for it, or refuses it.
        """
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": self._cluster.namespace}}
        try:
            with refusals.said(f"create {self.called}"):
                made: Json = patiently(lambda: self._api.create_namespaced_custom_object(**self.place, body=body))
        except refusals.NotThereError as error:
            raise StepError(_NO_OPERATOR.format(name=self._identity.name)) from error
        except refusals.AlreadyThereError as error:
            if found := self.read():
                return found
            message = f"{self.called} was there and is gone again; run the step again"
            raise StepError(message) from error
        if self._identity.made == MPI_JOB and "runLauncherAsWorker" not in made["spec"]:
            self.delete()
            raise StepError(_OLD_OPERATOR)
        return made

    def read(self) -> Json | None:
        """Return it; None if there is none."""
        name = self._identity.name
        with suppress(refusals.NotThereError), refusals.said(f"read {self.called}"):
            found: Json = patiently(lambda: self._api.get_namespaced_custom_object(**self.place, name=name))
            return found
        return None

    def deletion(self) -> Callable[[], object]:
        """Return what deletes it with its pods, by connections of its own."""
        another = self._cluster.another_api().api_client
        return partial(
            type(self._api)(api_client=another).delete_namespaced_custom_object,
            **self.place,
            name=self._identity.name,
            propagation_policy="Background",
        )

    def delete(self, *, wait: float = 0.0) -> None:
        """Delete it with its pods, if it is there.

        :param wait: for how many seconds to wait until they are gone.
        """
        with suppress(refusals.NotThereError), refusals.said(f"delete {self.called}"):
            patiently(self.deletion())
        end = time.monotonic() + wait
        while time.monotonic() < end and (self.read() or self.pods()):
            time.sleep(0.5)

    def pods(self, attempt: int | None = None) -> list[Json]:
        """Return its pods, or those that were begun for one time."""
        only = selector(self._identity.name, attempt)
        with refusals.said(f"list the pods of {self.called}"):
            found = patiently(
                lambda: self._cluster.api.list_namespaced_pod(self._cluster.namespace, label_selector=only)
            )
            return [plain(pod) for pod in found.items]

    def watched(self, attempt: int) -> Iterator[tuple[str, Json]]:
        """Yield what happens to the pods that were begun for one time, and how they are then.

        By a connection of its own, until that ends.
        """
        from kubernetes.watch import Watch  # noqa: PLC0415 -- heavy, needed only to run

        with refusals.said(f"watch the pods of {self.called}"):
            look = self._cluster.another_api().list_namespaced_pod
            only = selector(self._identity.name, attempt)
            for event in Watch().stream(
                look, self._cluster.namespace, label_selector=only, timeout_seconds=WATCH_SECONDS
            ):
                yield str(event["type"]), event["raw_object"]

    def put_service(self, manifest: Mapping[str, Any], *, anew: bool) -> None:
        """Create the service of its pods.

        :param anew: whether one that is there belongs to an earlier Job, and goes; else it is the right one.
        """
        name, namespace = manifest["metadata"]["name"], self._cluster.namespace
        try:
            with refusals.said(f"create the service {name}"):
                patiently(lambda: self._cluster.api.create_namespaced_service(namespace, dict(manifest)))
        except refusals.AlreadyThereError:
            if anew:
                with suppress(refusals.NotThereError), refusals.said(f"delete the service {name}"):
                    patiently(lambda: self._cluster.api.delete_namespaced_service(name, namespace))
                self.put_service(manifest, anew=False)
