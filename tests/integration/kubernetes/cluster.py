"""The cluster of tests: whatever KUBECONFIG names, and images that it can pull.

========================== ===========================================================================================
variable                   what it says
========================== ===========================================================================================
KUBECONFIG                 the cluster; tests make namespaces of their own
MLPIPE_TEST_HOST_ADDRESS   the address at which pods reach what tests serve on this machine
MLPIPE_TEST_STAGING_IMAGE  what docker/step.Dockerfile builds
MLPIPE_TEST_BUSYBOX_IMAGE  an image that has nothing but busybox
MLPIPE_TEST_PYTHON_IMAGE   an image that has a ``python3`` and nothing of ours
MLPIPE_TEST_TORCH_IMAGE    one that has torch, for the tests of many nodes; they are skipped without it
MLPIPE_TEST_MPI_IMAGE      one that has Open MPI, mpi4py and sshd, with a user of the uid 1000; likewise
MLPIPE_TEST_NAMESERVER     the address of a server that knows pods by name, where the cluster's own pods are told of none
MLPIPE_TEST_SKLEARN_IMAGE  one that has scikit-learn, too
========================== ===========================================================================================
"""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

VARIABLES = (
    "MLPIPE_TEST_HOST_ADDRESS",
    "MLPIPE_TEST_STAGING_IMAGE",
    "MLPIPE_TEST_BUSYBOX_IMAGE",
    "MLPIPE_TEST_PYTHON_IMAGE",
    "MLPIPE_TEST_SKLEARN_IMAGE",
)


def use(patch: pytest.MonkeyPatch, kubeconfig: Path) -> None:
    """Have both clients take another configuration from now on: they read the variable when they are imported."""
    patch.setenv("KUBECONFIG", str(kubeconfig))
    for client in ("kubernetes", "kubernetes_asyncio"):
        patch.setattr(f"{client}.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))


def image(kind: str) -> str:
    return os.environ[f"MLPIPE_TEST_{kind.upper()}_IMAGE"]


@dataclass(frozen=True)
class Namespace:
    """A namespace of its own, as somebody sees it who may do anything."""

    name: str

    @cached_property
    def api(self) -> Any:
        from kubernetes import client, config

        config.load_kube_config()
        return client.CoreV1Api(client.ApiClient())

    def pods(self) -> list[dict[str, Any]]:
        return self._plain(self.api.list_namespaced_pod(self.name).items)

    def secrets(self) -> list[str]:
        return [secret.metadata.name for secret in self.api.list_namespaced_secret(self.name).items]

    def delete_pods(self, **options: Any) -> None:
        self.api.delete_collection_namespaced_pod(self.name, **options)  # one that goes meanwhile is none to miss

    def _plain(self, things: Any) -> Any:
        return self.api.api_client.sanitize_for_serialization(things)


@contextmanager
def namespace(labels: dict[str, str] | None = None) -> Iterator[Namespace]:
    """Make a namespace, and remove it with all that is in it."""
    made = Namespace(f"mlpipe-test-{uuid.uuid4().hex[:8]}")
    made.api.create_namespace({"metadata": {"name": made.name, "labels": labels or {}}})
    try:
        yield made
    finally:
        made.api.delete_namespace(made.name, grace_period_seconds=0)
