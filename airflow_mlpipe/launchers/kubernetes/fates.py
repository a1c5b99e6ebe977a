"""How the nodes of one step ended, and which of them was the first; pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import CommandFailedError, MlpipeError, StepStoppedError
from airflow_mlpipe.launchers.ending import with_lines
from airflow_mlpipe.launchers.kubernetes import endings
from airflow_mlpipe.launchers.kubernetes.members import called, is_worker, node_of
from airflow_mlpipe.launchers.kubernetes.pod import BASE, STAGE
from airflow_mlpipe.launchers.kubernetes.state import ended, is_leaving
from airflow_mlpipe.runtime.pod import wrapper
from airflow_mlpipe.runtime.ranks import explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.runtime.protocol import DistributionSpec

Json = dict[str, Any]

_STAMPED = re.compile(rb"(\S+T\S+Z) ?(.*)\Z", re.DOTALL)
_CONSEQUENCES = (None, 0, wrapper.STOPPED, wrapper.UNPUBLISHED)
"""How commands end that did not fail by themselves."""


def disruption(pods: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what took one of them away that had done nothing wrong, in words; None for no such thing."""
    for pod in pods:
        status = dict(pod.get("status") or {})
        if is_worker(pod):  # how sshd ends says nothing
            status["containerStatuses"] = []
        if words := endings.disruption({**pod, "status": status}):
            return f"{called(pod)}: {words}"
    return None


def lost(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return a pod that somebody deleted before any command had failed; None if there is none."""
    failures = [str(ended(pod, BASE).get("finishedAt") or "~") for pod in pods if _failed_first(pod)]
    first = min(failures, default="~")
    gone = [pod for pod in pods if is_leaving(pod) and (_begun_to_leave(pod), not is_worker(pod)) < (first, True)]
    return min(gone, key=_begun_to_leave, default=None)


def first_failed(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the pod that failed first; None if none did by itself."""
    staged = [pod for pod in pods if ended(pod, STAGE).get("exitCode") not in (None, 0)]
    failed = staged or [pod for pod in pods if _failed_first(pod)]
    if not failed:
        failed = [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Failed" and not is_leaving(pod)]
    return min(failed, key=lambda pod: (_ended_at(pod), node_of(pod)), default=None)


def failed(pods: Sequence[Mapping[str, Any]], name: str, tail: Sequence[str], given: DistributionSpec) -> MlpipeError:
    """Return the error for the nodes of a step that ended without a result.

    :param pods: all that were seen, as they were last.
    :param name: that of the Job or MPIJob.
    :param tail: the last lines of the commands.
    """
    first = first_failed(pods)
    if gone := lost(pods):
        message = f"{called(gone)} of {given.nodes} was deleted while the step ran; nothing of it is kept"
        return StepStoppedError(with_lines(message, tail) if tail else message)
    if first is None:
        message = f"the pods of {name} were deleted while the step ran; nothing of them is kept"
        return StepStoppedError(with_lines(message, tail) if tail else message)
    error = endings.failed(first, first["metadata"]["name"], [])
    where = f"node {node_of(first)} of {given.nodes}"
    if not isinstance(error, CommandFailedError):
        return type(error)(f"{where}: {error}") if type(error).__init__ is MlpipeError.__init__ else error
    words = str(error).removesuffix("; it printed nothing")
    told = words if given.kind == "mpi" and not is_worker(first) else f"{where}: {words}"  # mpirun speaks for all nodes
    return type(error)(with_lines(str(explained(told, given, tail)), tail))


def merged(logs: Mapping[int, bytes]) -> list[bytes]:
    """Return the lines of many nodes in the order of time, each behind the number of its node.

    :param logs: each line behind its time.
    """
    stamped = [
        (match[1].rstrip(b"Z").ljust(29, b"0"), node, match[2])
        for node, log in logs.items()
        for match in map(_STAMPED.match, log.split(b"\n"))
        if match
    ]
    mark = len(logs) > 1
    return [
        (b"[node %d] " % node if mark else b"") + line for _, node, line in sorted(stamped, key=lambda item: item[0])
    ]


def _failed_first(pod: Mapping[str, Any]) -> bool:
    return not is_worker(pod) and ended(pod, BASE).get("exitCode") not in _CONSEQUENCES and not is_leaving(pod)


def _ended_at(pod: Mapping[str, Any]) -> str:
    return str(ended(pod, BASE).get("finishedAt") or "~")


def _begun_to_leave(pod: Mapping[str, Any]) -> str:
    """Return when a pod was deleted: what the API tells is when its time is up."""
    stamp = str(pod["metadata"]["deletionTimestamp"])
    grace = int(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
    try:
        due = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return stamp
    return (due - timedelta(seconds=grace)).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
