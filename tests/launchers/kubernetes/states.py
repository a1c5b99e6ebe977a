"""States of pods as the API tells them."""

from __future__ import annotations

from typing import Any


def container(name: str, **state: Any) -> dict[str, Any]:
    return {"name": name, "state": state}


def pod(*containers: dict[str, Any], phase: str = "Pending", leaving: bool = False, **status: Any) -> dict[str, Any]:
    """Return a pod whose containers are in some states."""
    init = [found for found in containers if found["name"] != "base"]
    base = [found for found in containers if found["name"] == "base"]
    images = [{"name": name, "image": f"images/{name}:1"} for name in ("mlpipe-stage", "mlpipe-publish")]
    return {
        "metadata": {"name": "mlpipe-train", **({"deletionTimestamp": "now"} if leaving else {})},
        "spec": {
            "initContainers": images,
            "containers": [{"name": "base", "image": "images/base:1", "resources": {"limits": {"memory": "1Gi"}}}],
        },
        "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": base, **status},
    }


def waiting(name: str, reason: str, message: str = "") -> dict[str, Any]:
    return container(name, waiting={"reason": reason, "message": message})


def ended(name: str, code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return container(name, terminated={"exitCode": code, "reason": reason, "message": message})


def unschedulable(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": reason, "message": message}])


def event(reason: str, message: str, kind: str = "Warning") -> dict[str, Any]:
    return {"reason": reason, "message": message, "type": kind}
