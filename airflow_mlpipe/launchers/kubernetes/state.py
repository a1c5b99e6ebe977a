"""What stands in the state of a pod, as plain data; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]


def states(pod: Mapping[str, Any]) -> list[Json]:
    """Return the states of all containers, those that come first first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def state_of(pod: Mapping[str, Any], name: str) -> Json:
    """Return the state of one container; nothing is in it before Kubernetes has looked at it."""
    return next((status for status in states(pod) if status["name"] == name), {})


def running(pod: Mapping[str, Any], name: str) -> bool:
    """Say whether a container runs."""
    return (state_of(pod, name).get("state") or {}).get("running") is not None


def ended(pod: Mapping[str, Any], name: str) -> Json:
    """Return how a container has ended; nothing while it has not."""
    return dict((state_of(pod, name).get("state") or {}).get("terminated") or {})


def waits(status: Mapping[str, Any]) -> Json:
    """Return what the container of a state waits for; nothing where it does not."""
    return dict((status.get("state") or {}).get("waiting") or {})


def is_over(pod: Mapping[str, Any], name: str) -> bool:
    """Say whether a container of a pod will do nothing any more."""
    return bool(ended(pod, name)) or is_finished(pod)


def is_finished(pod: Mapping[str, Any]) -> bool:
    """Say whether all containers of a pod have ended."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_leaving(pod: Mapping[str, Any]) -> bool:
    """Say whether somebody has deleted a pod that is still there."""
    return pod["metadata"].get("deletionTimestamp") is not None
