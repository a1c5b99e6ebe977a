"""Volumes of a node that pods claim, and a look at what is in them."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.integration.kubernetes.cluster import image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.kubernetes.cluster import Namespace

_ACCESS = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
_SIZE = {"storage": "64Mi"}


@dataclass(frozen=True)
class Claim:
    """A claim of a folder of one node; every pod that uses it runs there."""

    name: str
    node: str
    namespace: Namespace

    def do(self, script: str) -> str:
        """Run a shell script as root in that folder, and return what it prints."""
        api, name = self.namespace.api, f"look-{uuid.uuid4().hex[:8]}"
        container = {
            "name": "base",
            "image": image("busybox"),
            "command": ["sh", "-c", f"mkdir -p /host/{self.name} && cd /host/{self.name} && {script}"],
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
            "securityContext": {"runAsUser": 0},
        }
        volumes = [{"name": "host", "hostPath": {"path": "/tmp"}}]
        spec = {"restartPolicy": "Never", "nodeName": self.node, "containers": [container], "volumes": volumes}
        api.create_namespaced_pod(self.namespace.name, {"metadata": {"name": name}, "spec": spec})
        end = time.monotonic() + 90
        while (phase := api.read_namespaced_pod(name, self.namespace.name).status.phase) != "Succeeded":
            assert phase != "Failed", api.read_namespaced_pod_log(name, self.namespace.name)
            assert time.monotonic() < end, phase
            time.sleep(0.2)
        said = api.read_namespaced_pod_log(name, self.namespace.name, _preload_content=False).data
        api.delete_namespaced_pod(name, self.namespace.name, grace_period_seconds=0)
        return str(said.decode())


@contextmanager
def claim(namespace: Namespace) -> Iterator[Claim]:
    """Make a folder that anybody may write to, on some node, and a claim of it; it goes with the block."""
    node = namespace.api.list_node().items[0]
    made = Claim(f"mlpipe-test-{uuid.uuid4().hex[:8]}", node.metadata.name, namespace)
    made.do("chmod 777 .")
    namespace.api.create_persistent_volume(_volume(made, node.metadata.labels["kubernetes.io/hostname"]))
    wanted = {**_ACCESS, "volumeName": made.name, "resources": {"requests": _SIZE}}
    body = {"metadata": {"name": made.name}, "spec": wanted}
    namespace.api.create_namespaced_persistent_volume_claim(namespace.name, body)
    try:
        yield made
    finally:
        made.do(f"rm -rf /host/{made.name}")
        namespace.api.delete_namespaced_persistent_volume_claim(made.name, namespace.name)
        namespace.api.delete_persistent_volume(made.name)


def _volume(made: Claim, host: str) -> dict[str, Any]:
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}
    spec = {
        **_ACCESS,
        "capacity": _SIZE,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": f"/tmp/{made.name}", "type": "Directory"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}},
    }
    return {"metadata": {"name": made.name}, "spec": spec}
