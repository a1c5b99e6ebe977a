"""What is seen of a pod until its command runs; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.pod import BASE, STAGE
from airflow_mlpipe.launchers.kubernetes.refusals import remedy_for
from airflow_mlpipe.launchers.kubernetes.state import ended, running, states, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CONFIG_SECONDS = 30.0
"""For how long a container may be refused: what it needs, a Secret say, may come a moment later."""

_NEVER = {"InvalidImageName", "ErrImageNeverPull"}
_PULL = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", *_NEVER}
_REFUSED = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CreatePodSandboxError"}
_IN_VAIN = re.compile(
    r"not found|manifest unknown|does not exist|denied|unauthorized|forbidden|no match for platform|invalid reference",
    re.IGNORECASE,
)
_SOON = re.compile(r"timeout|timed out|too many requests|rate limit|qps|unavailable|bad gateway|refused", re.IGNORECASE)
_SILENT = {"Scheduled", "Created", "Started", "Pulled", "Killing"}
"""Events that say nothing which is not said otherwise."""


class Start:
    """Judges looks at one pod, one after the other.

    :param patience: seconds after which a pod is given up in which nothing has been started; those in which inputs are
        brought, and those in a queue for quota, do not count.
    :param say: is told each new event in the API's words.
    """

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        self._patience = patience
        self._say = say
        self._said: set[str] = set()
        self._last = ""
        self._since: float | None = None
        self._refused: float | None = None

    def look(self, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float) -> bool:
        """Return whether the command runs, or nothing of the pod will run any more.

        :param now: seconds on a clock that only goes forward.
        :raises StepError: if it cannot start, or not in time; it says why.
        """
        self._tell(events)
        if pod["status"].get("phase") in ("Succeeded", "Failed") or running(pod, BASE) or ended(pod, BASE):
            return True
        self._judge_images(pod)
        self._judge_refusals(pod, now)
        if self._since is None or running(pod, STAGE) or _is_gated(pod):
            self._since = now
        if now - self._since >= self._patience:
            raise StepError(self._in_vain(pod))
        return False

    def _tell(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            words = f"{event.get('reason')}: {event.get('message')}"
            if event.get("reason") in _SILENT or words in self._said:
                continue
            self._said.add(words)
            self._say(f"the pod: {words}")
            if event.get("type") == "Warning":
                self._last = words

    def _judge_images(self, pod: Mapping[str, Any]) -> None:
        for name, reason, message in _waiting(pod, _PULL):
            for_good = reason in _NEVER or (_IN_VAIN.search(message) and not _SOON.search(message))
            if for_good:
                said = f"{reason}: {message or self._last}{_pull(message)}"
                why = f"the image {_image(pod, name)} cannot be pulled: {said}"
                raise StepError(why)

    def _judge_refusals(self, pod: Mapping[str, Any], now: float) -> None:
        refused = next(_waiting(pod, _REFUSED), None)
        if refused is None:
            self._refused = None
            return
        self._refused = now if self._refused is None else self._refused
        name, reason, message = refused
        if now - self._refused >= min(CONFIG_SECONDS, self._patience) or "runAsNonRoot" in message:
            why = f"container {name} of the pod cannot be started: {reason}: {message}{_config(message)}"
            raise StepError(why)

    def _in_vain(self, pod: Mapping[str, Any]) -> str:
        name = pod["metadata"]["name"]
        words = (
            _unschedulable(pod)
            or next((f"{why}: {text}" for _, why, text in _waiting(pod, None) if text), "")
            or self._last
        )
        hint = _scheduling(words)
        return f"the pod {name} has not started within {self._patience:.0f} seconds (pending_timeout): {words or 'nobody says why'}{hint}"


def _waiting(pod: Mapping[str, Any], reasons: set[str] | None) -> Iterator[tuple[str, str, str]]:
    """Yield name, reason and words of the containers that wait for one of some reasons."""
    for status in states(pod):
        waiting = waits(status)
        reason = str(waiting.get("reason", ""))
        if waiting and (reasons is None or reason in reasons):
            yield str(status["name"]), reason, " ".join(str(waiting.get("message") or "").split())


def _image(pod: Mapping[str, Any], name: str) -> str:
    both = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    found = next((str(given["image"]) for given in both if given["name"] == name), "?")
    return found if name == BASE else f"{found} (of {name})"


def _conditions(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (given for given in pod["status"].get("conditions") or () if given.get("type") == "PodScheduled")


def _is_gated(pod: Mapping[str, Any]) -> bool:
    return any(given.get("reason") == "SchedulingGated" for given in _conditions(pod))


def _unschedulable(pod: Mapping[str, Any]) -> str:
    return next((str(given.get("message")) for given in _conditions(pod) if given.get("status") == "False"), "")


def _pull(message: str) -> str:
    if re.search(r"denied|unauthorized|forbidden", message, re.IGNORECASE):
        return "; give the target image_pull_secrets with the login of the registry"
    return "; correct the image, or push it again and run the pipeline again"


def _config(message: str) -> str:
    if "runAsNonRoot" in message or "non-root" in message:
        return "; give the target a user that is not 0"
    return (
        "; create what is missing in the namespace, or correct the target"
        if "not found" in message
        else remedy_for(message)
    )


def _scheduling(words: str) -> str:
    if re.search(r"Insufficient|didn't match|untolerated taint|unbound|no nodes available", words):
        return "; ask for what some node has (resources, node_selector, tolerations, volumes), or wait longer: pending_timeout"
    return ""
