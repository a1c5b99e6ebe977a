"""What a pod is supplied with: the message into the step, what its staging containers open the store with, the user's secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.identity import Supplies
from airflow_mlpipe.launchers.kubernetes.secrets import environment_secret, staging_secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.definitions.compute import KubernetesCompute
    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepSpec

Json = dict[str, Any]


@dataclass(frozen=True)
class Credentials:
    """The storage options that one step needs: of the store, and of datastores by name."""

    store: Mapping[str, Any] = field(default_factory=dict)
    datastores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, site: Site, spec: StepSpec, target: KubernetesCompute) -> Credentials:
        """Return what Airflow's connections hold; nothing where the workspace has the pod find its own."""
        if target.staging_secret or target.staging_token or target.accept_pod_identity:
            return cls()
        named = dict.fromkeys(bound.datastore for bound in spec.inputs.values() if bound.datastore)
        connections = {name: site.workspace.datastore(name).connection for name in named}
        options = {name: site.storage_options(given) for name, given in connections.items() if given}
        return cls(site.storage_options(site.connection) if site.connection else {}, options)

    def __bool__(self) -> bool:
        return bool(self.store or self.datastores)


def supplies_of(site: Site, spec: StepSpec, target: KubernetesCompute, credentials: Credentials) -> Supplies:
    """Return what the manifest of a pod has to know of the world.

    :raises StepError: if the store is one that no pod can reach.
    """
    store = site.store
    if store.local_root is not None or store.url.startswith("memory:"):
        message = (
            f"the output store {store.uri('')} lies on this machine, where no pod reaches it; "
            "give the workspace an output_store that both reach, such as s3://..."
        )
        raise StepError(message)
    roots = {name: str(site.workspace.datastore(name).url) for name in target.datastores}
    return Supplies(store.url, roots, secrets=bool(spec.environment.secrets), credentials=bool(credentials))


def short_lived(
    identity: PodIdentity, namespace: str, owner: str, secrets: Mapping[str, str], credentials: Credentials
) -> list[Json]:
    """Return the Secrets of a pod.

    :param owner: the uid of the pod, with which they go.
    """
    made = []
    if secrets:
        made.append(environment_secret(identity, secrets, namespace, owner))
    if credentials:
        made.append(staging_secret(identity, credentials.store, credentials.datastores, namespace, owner))
    return made
