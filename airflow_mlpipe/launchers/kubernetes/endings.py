"""How a pod ended, in a few lines; pure."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import CommandFailedError, InputLostError, MlpipeError, StepError, StepStoppedError
from airflow_mlpipe.launchers.ending import with_lines
from airflow_mlpipe.launchers.kubernetes.pod import BASE, PUBLISH, STAGE
from airflow_mlpipe.launchers.kubernetes.state import ended, is_leaving, state_of
from airflow_mlpipe.runtime.pod import failure, wrapper
from airflow_mlpipe.runtime.ranks import explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.runtime.protocol import DistributionSpec

_STOPPED = (None, wrapper.STOPPED, 128 + signal.SIGKILL)
"""With which exit codes a command ends that is stopped."""
_DISRUPTED = {
    "Evicted",
    "NodeShutdown",
    "Terminated",
    "NodeLost",
    "NodeAffinity",
    "Shutdown",
    "Preempting",
    "UnexpectedAdmissionError",
}
"""Reasons of a pod that failed, for which its step can do nothing."""
_TAKEN = {"Preempted", "TaintManagerEviction", "Evicted", "NodeNotReady"}
"""Events before a pod is taken away."""
_OWN_FAULT = re.compile(r"exceed", re.IGNORECASE)
_SIGNALLED = 128
_MEANINGS = {
    126: "it is no program for this machine, or not executable; run `chmod +x` on it, or call it through its interpreter",
    127: "there is no such program in the image, or one that a script calls is not there; correct the command, or take an image that has it",
    wrapper.DISK_FULL: "its volume is full; give the work volume more space",
}


def disruption(pod: Mapping[str, Any]) -> str | None:
    """Return what took a pod away that had done nothing wrong: an eviction, a preemption, a node; None for no such thing."""
    status = pod.get("status") or {}
    said = " ".join(str(status.get("message") or "").split())
    if _is_own_fault(said) or ended(pod, BASE).get("exitCode") not in _STOPPED:
        return None
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"{condition.get('reason')}: {condition.get('message') or said}"
    reason = str(status.get("reason") or "")
    return f"{reason}: {said}" if reason in _DISRUPTED else None


def taken(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what events tell of a pod that was taken away; None if they tell of no such thing."""
    words = [f"{event['reason']}: {event.get('message')}" for event in events if event.get("reason") in _TAKEN]
    return words[-1] if words else None


def failed(
    pod: Mapping[str, Any] | None, name: str, tail: Sequence[str], given: DistributionSpec | None = None
) -> MlpipeError:
    """Return the error for a pod that has ended without a result.

    :param pod: as it was last; None if nobody knows.
    :param tail: the last lines of the command.
    :param given: how the command is many processes, if it is.
    """
    if pod is None or (is_leaving(pod) and ended(pod, BASE).get("exitCode") in _STOPPED):
        message = f"the pod {name} was deleted while the step ran; nothing of it is kept"
        return StepStoppedError(with_lines(message, tail) if tail else message)
    status = pod.get("status") or {}
    if error := _staging(pod):
        return error
    if status.get("reason") in ("Evicted", "DeadlineExceeded") or _is_own_fault(str(status.get("message") or "")):
        said = " ".join(str(status.get("message") or "").split())
        return (StepStoppedError if disruption(pod) else CommandFailedError)(
            with_lines(f"the pod was stopped: {status.get('reason')}: {said}{_remedy(said)}", tail)
        )
    told = _told(pod, PUBLISH)
    return told if told is not None and _published_in_vain(pod) else _command(pod, name, tail, told, given)


def _staging(pod: Mapping[str, Any]) -> MlpipeError | None:
    """Return what went wrong before the command, if something did."""
    end = ended(pod, STAGE)
    if not end or end.get("exitCode") == 0:
        return None
    if error := failure.load(str(end.get("message") or "")):
        return error
    return StepError(f"the inputs could not be brought: {STAGE} of the pod ended with {_shown(end)}{_memory(end)}")


def _published_in_vain(pod: Mapping[str, Any]) -> bool:
    return ended(pod, BASE).get("exitCode") in (0, wrapper.UNPUBLISHED)


def _told(pod: Mapping[str, Any], name: str) -> MlpipeError | None:
    """Return what a staging container has said of a failure, now or before it was started again."""
    found = state_of(pod, name)
    for state in (found.get("state") or {}, found.get("lastState") or {}):
        if error := failure.load(str((state.get("terminated") or {}).get("message") or "")):
            return error
    return None


def _command(
    pod: Mapping[str, Any], name: str, tail: Sequence[str], told: MlpipeError | None, given: DistributionSpec | None
) -> MlpipeError:
    end = ended(pod, BASE)
    code = end.get("exitCode")
    if code in (0, wrapper.UNPUBLISHED):
        sidecar = ended(pod, PUBLISH)
        how = f"{PUBLISH} of the pod ended with {_shown(sidecar)}{_memory(sidecar)}" if sidecar else "nobody says why"
        return StepError(f"the command succeeded, but its outputs were not published: {how}")
    if code is None:
        status = pod.get("status") or {}
        reason = ": ".join(filter(None, (status.get("reason"), status.get("message")))) or status.get("phase")
        return StepStoppedError(f"the pod {name} ended before its command did: {reason}")
    if isinstance(told, InputLostError):
        return told
    kind = StepStoppedError if disruption(pod) else CommandFailedError
    return kind(with_lines(str(explained(_ended_with(end, pod), given, tail)), tail))


def _ended_with(end: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    code = int(end["exitCode"])
    if end.get("reason") == "OOMKilled":
        limits = next((c.get("resources") or {} for c in pod["spec"]["containers"] if c["name"] == BASE), {})
        given = (limits.get("limits") or {}).get("memory")
        than = f"the {given} it may use" if given else "the node could give"
        return f"the command ran out of memory: it wanted more than {than} (exit code {code}, OOMKilled); give the step more memory"
    return f"the command ended with exit code {code}{_meaning(code)}"


def _meaning(code: int) -> str:
    if code in _MEANINGS:
        return f": {_MEANINGS[code]}"
    if code > _SIGNALLED and code - _SIGNALLED in set(signal.Signals):
        hint = "; perhaps a process of it ran out of memory" if code == _SIGNALLED + signal.SIGKILL else ""
        return f" ({signal.Signals(code - _SIGNALLED).name}){hint}"
    return ""


def _shown(end: Mapping[str, Any]) -> str:
    return f"exit code {end.get('exitCode')} ({end.get('reason')})"


def _memory(end: Mapping[str, Any]) -> str:
    return "; give staging_resources more memory" if end.get("reason") == "OOMKilled" else ""


def _is_own_fault(said: str) -> bool:
    return bool(_OWN_FAULT.search(said)) and "low on resource" not in said


def _remedy(said: str) -> str:
    return "; give the step more disk: ephemeral-storage in resources, or a work_volume" if _is_own_fault(said) else ""
