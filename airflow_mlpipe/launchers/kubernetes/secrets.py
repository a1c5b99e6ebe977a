"""The short-lived Secrets of a pod: owned by it where its uid is known, so that they go with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.runtime.pod.access import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity


def environment_secret(
    identity: PodIdentity, values: Mapping[str, str], namespace: str | None = None, owner: str | None = None
) -> dict[str, Any]:
    """Return the Secret that holds the user's secret variables by name; only the user's container has them as such.

    :param owner: the uid of the pod, or of what makes the pods.
    """
    return _secret(identity, identity.environment_secret, values, namespace, owner)


def staging_secret(
    identity: PodIdentity,
    store: Mapping[str, Any],
    datastores: Mapping[str, Mapping[str, Any]],
    namespace: str | None = None,
    owner: str | None = None,
) -> dict[str, Any]:
    """Return the Secret that holds the storage options of the store, and of the datastores by name.

    :param owner: the uid of the pod, or of what makes the pods.
    """
    options = {"store": dict(store), "datastores": {name: dict(given) for name, given in datastores.items()}}
    return _secret(identity, identity.staging_secret, {OPTIONS: json.dumps(options)}, namespace, owner)


def owned_by(identity: PodIdentity, uid: str) -> dict[str, Any]:
    """Return the reference by which an object goes with what was made for a step."""
    version, kind = identity.made
    return {"apiVersion": version, "kind": kind, "name": identity.name, "uid": uid}


def _secret(
    identity: PodIdentity, name: str, values: Mapping[str, str], namespace: str | None, owner: str | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": identity.labels}
    if namespace is not None:
        metadata["namespace"] = namespace
    if owner is not None:
        metadata["ownerReferences"] = [owned_by(identity, owner)]
    # Not immutable: of such a Secret a kubelet keeps what it has read while any pod that names it is there, and gives it
    # to the next pod of the same name, though it was deleted and made anew with other credentials.
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": dict(values),
    }
