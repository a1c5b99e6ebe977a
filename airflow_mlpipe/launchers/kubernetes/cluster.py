"""The objects of one step at a cluster, by the provider's hook, operator and pod manager."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes import refusals
from airflow_mlpipe.launchers.kubernetes.pod import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.definitions.compute import KubernetesCompute

T = TypeVar("T")
Json = dict[str, Any]

PATIENCE = 300.0
"""Seconds for which an API server that does not answer is asked again: it restarts, or its network does."""

WATCH_SECONDS = 50
"""How long one connection is used for watching; others take it up."""
_NO_LOG = b"unable to retrieve container logs"
_TRANSIENT = {429, 500, 502, 503, 504}
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TASK = "pod"
"""The operator's task id; no DAG has it."""


class Cluster:
    """What one namespace of a cluster has of us."""

    def __init__(self, target: KubernetesCompute) -> None:
        self._target = target

    @cached_property
    def _hook(self) -> Any:  # noqa: ANN401 -- the provider's hook is not typed
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook  # noqa: PLC0415 -- heavy

        return KubernetesHook(conn_id=self._target.connection)

    @property
    def hook(self) -> Any:  # noqa: ANN401 -- as above
        """The provider's hook, for what is made of other kinds than pods."""
        return self._hook

    @cached_property
    def api(self) -> Any:  # noqa: ANN401 -- the client is not typed
        """The API of the cluster.

        :raises StepError: if none is configured.
        """
        with refusals.said("connect to the cluster"):
            return self._hook.core_v1_client

    def another_api(self) -> Any:  # noqa: ANN401 -- as above
        """Return a client with connections of its own, for a signal handler that interrupts the other."""
        client = type(self.api.api_client)(configuration=self.api.api_client.configuration)
        return type(self.api)(api_client=client)

    @cached_property
    def namespace(self) -> str:
        """Where pods are made: as the target says, as the connection does, or where this very process runs."""
        if self._target.namespace:
            return self._target.namespace
        with refusals.said("connect to the cluster"):
            named = self._hook.get_namespace()
        return str(named or (_NAMESPACE.read_text("ascii") if _NAMESPACE.exists() else "default"))

    def operator(self, manifest: Mapping[str, Any], **arguments: Any) -> Any:  # noqa: ANN401 -- not typed
        """Return the provider's operator around a pod."""
        from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator  # noqa: PLC0415 -- heavy

        return KubernetesPodOperator(
            task_id=_TASK,
            kubernetes_conn_id=self._target.connection,
            namespace=self.namespace,
            full_pod_spec=_pod_of(manifest),
            random_name_suffix=False,
            automount_service_account_token=False,
            durable=False,
            base_container_name=BASE,
            log_events_on_startup=False,
            **arguments,
        )

    def create(self, manifest: Mapping[str, Any]) -> Json:
        """Create a pod and return it; where it is there already, return that."""
        operator = self.operator(manifest)
        operator.hook = self._hook
        pod = operator.build_pod_request_obj()
        _keep_what_is_off(manifest, pod)
        body = plain(pod)
        name = body["metadata"]["name"]
        try:
            with refusals.said(f"create the pod {name}"):
                return plain(patiently(lambda: self.api.create_namespaced_pod(self.namespace, body)))
        except refusals.AlreadyThereError as error:
            if found := self.read(name):
                return found
            message = f"the pod {name} was there and is gone again; run the step again"
            raise StepError(message) from error

    def read(self, name: str) -> Json | None:
        """Return a pod; None if there is none of that name."""
        with suppress(refusals.NotThereError), refusals.said(f"read the pod {name}"):
            return plain(patiently(lambda: self.api.read_namespaced_pod(name, self.namespace)))
        return None

    def delete(self, name: str, *, wait: float = 0.0) -> None:
        """Delete a pod, if it is there.

        :param wait: for how many seconds to wait until it is gone.
        """
        with suppress(refusals.NotThereError), refusals.said(f"delete the pod {name}"):
            patiently(lambda: self.api.delete_namespaced_pod(name, self.namespace))
        end = time.monotonic() + wait
        while time.monotonic() < end and self.read(name):
            time.sleep(0.5)

    def put_secret(self, manifest: Mapping[str, Any], *, anew: bool) -> None:
        """Create a Secret.

        :param anew: whether one that is there belongs to an earlier pod, and goes; else it is the right one.
        """
        name = manifest["metadata"]["name"]
        try:
            with refusals.said(f"create the secret {name}"):
                patiently(lambda: self.api.create_namespaced_secret(self.namespace, dict(manifest)))
        except refusals.AlreadyThereError:
            if anew:
                with suppress(refusals.NotThereError), refusals.said(f"delete the secret {name}"):
                    patiently(lambda: self.api.delete_namespaced_secret(name, self.namespace))
                self.put_secret(manifest, anew=False)

    def watched(self, name: str) -> Iterator[tuple[str, Json]]:
        """Yield what happens to a pod and how it is then, by a connection of its own, until that ends."""
        from kubernetes.watch import Watch  # noqa: PLC0415 -- heavy, needed only to run

        with refusals.said(f"watch the pod {name}"):
            api, only = self.another_api(), f"metadata.name={name}"
            for event in Watch().stream(
                api.list_namespaced_pod, self.namespace, field_selector=only, timeout_seconds=WATCH_SECONDS
            ):
                yield str(event["type"]), event["raw_object"]

    def events(self, name: str, uid: str | None = None) -> list[Json]:
        """Return what happened to a pod, or to all of that name; nothing where one may not know that."""
        selector = f"involvedObject.name={name}" + (f",involvedObject.uid={uid}" if uid else "")
        with suppress(StepError), refusals.said(f"list the events of the pod {name}"):
            found = self.api.list_namespaced_event(self.namespace, field_selector=selector)
            return [plain(event) for event in found.items]
        return []

    def last_lines(self, name: str, container: str, count: int, *, stamped: bool = False) -> bytes:
        """Return what a container has printed last; nothing where that is gone.

        :param stamped: whether each line stands behind its time.
        """
        with suppress(StepError, refusals.NotThereError), refusals.said(f"read the log of the pod {name}"):
            answer = self.api.read_namespaced_pod_log(
                name,
                self.namespace,
                container=container,
                tail_lines=count,
                timestamps=stamped,
                _preload_content=False,
            )
            return b"" if answer.data.startswith(_NO_LOG) else bytes(answer.data)
        return b""

    def lines(self, name: str, since: float | None, *, follow: bool) -> Iterator[bytes]:
        """Yield what the command prints, each line behind its time, until the connection or the container ends.

        :param since: only what is not older than so many seconds.
        """
        from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager  # noqa: PLC0415 -- heavy

        pod = _pod_of({"metadata": {"name": name, "namespace": self.namespace}})
        manager = PodManager(kube_client=self.api)
        with refusals.said(f"read the log of the pod {name}"):
            yield from manager.read_pod_logs(
                pod,
                BASE,
                timestamps=True,
                since_seconds=None if since is None else max(1, int(since) + 1),
                follow=follow,
                _request_timeout=(30, 300),
            )


def patiently(call: Callable[[], T], patience: float = PATIENCE) -> T:
    """Return what a call returns; while the API server does not answer, ask again."""
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 -- heavy, needed only to run
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- as above

    end, pause = time.monotonic() + patience, 0.5
    while True:
        try:
            return call()
        except ApiException as error:
            if error.status not in _TRANSIENT or time.monotonic() > end:
                raise
        except HTTPError:
            if time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 15)


def plain(thing: Any) -> Json:  # noqa: ANN401 -- any of the models of both clients
    """Return an object of a client as plain data, by the names that Kubernetes uses."""
    from kubernetes.client import ApiClient  # noqa: PLC0415 -- heavy, needed only to run

    data: Json = ApiClient().sanitize_for_serialization(thing)
    return data


def _keep_what_is_off(manifest: Mapping[str, Any], pod: Any) -> None:  # noqa: ANN401 -- the client's model is not typed
    """Put back what is false or zero: the operator takes that for not said."""
    for field, key in pod.spec.attribute_map.items():
        if manifest["spec"].get(key) in (False, 0) and getattr(pod.spec, field) is None:
            setattr(pod.spec, field, manifest["spec"][key])


def _pod_of(manifest: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- the client's model is not typed
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator  # noqa: PLC0415 -- heavy

    return PodGenerator.deserialize_model_dict(dict(manifest))
