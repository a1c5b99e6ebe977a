"""What is seen of the pods of many nodes until all of them run, and whether more will come of them; pure.

Nobody else looks: a Job waits for ever for a pod that no node can take, an MPIJob tells what is wrong with it by an event
alone, and its launcher is not made before all its workers answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.members import called, first_of, is_worker, node_of
from airflow_mlpipe.launchers.kubernetes.mpijob import SSH_PORT
from airflow_mlpipe.launchers.kubernetes.pod import BASE, STAGE
from airflow_mlpipe.launchers.kubernetes.refusals import remedy_for
from airflow_mlpipe.launchers.kubernetes.starting import Start
from airflow_mlpipe.launchers.kubernetes.state import ended, is_leaving, running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Json = dict[str, Any]

_GOOD = {"Complete", "Succeeded"}
_BAD = {"Failed", "FailureTarget"}
_REFUSED = {"ValidationError", "InvalidMPIJobSpec"}
"""Events of a thing that its operator will not make pods for; there is no condition then."""
_UNREADY = {"Unhealthy"}
"""Events of a worker whose sshd does not answer yet: all begin so."""
_SILENT = {"MPIJobCreated", "MPIJobRunning", "SuccessfulCreate", "MPIJobSucceeded"}


def has_ended(thing: Mapping[str, Any]) -> bool:
    """Say whether a Job or an MPIJob tells that it has ended, or will in a moment."""
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return any(given.get("type") in _GOOD | _BAD and given.get("status") == "True" for given in conditions)


def is_over(thing: Mapping[str, Any] | None, pods: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether nothing more will come of pods, of which none may fail."""
    if thing is None or is_leaving(thing) or has_ended(thing) or any(has_failed(pod) for pod in pods):
        return True
    first = first_of(pods)  # mpirun has ended for all, also where no operator is there to say so
    return thing["kind"] == "MPIJob" and first is not None and first["status"].get("phase") == "Succeeded"


def has_failed(pod: Mapping[str, Any]) -> bool:
    """Say whether a pod has failed by itself."""
    code = ended(pod, BASE).get("exitCode")
    failed = (pod.get("status") or {}).get("phase") == "Failed" or (code not in (None, 0) and not is_worker(pod))
    return failed and not is_leaving(pod)


def is_waiting(thing: Mapping[str, Any]) -> bool:
    """Say whether a queue for quota holds a Job or an MPIJob back."""
    spec = thing["spec"]
    return bool(spec.get("suspend") or (spec.get("runPolicy") or {}).get("suspend"))


class Gathering:
    """Judges looks at the pods of one step, one after the other.

    :param nodes: how many there shall be.
    :param patience: seconds after which they are given up while one of them does not start; see `Start`.
    :param say: is told each new event in the API's words.
    """

    def __init__(self, nodes: int, patience: float, say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._patience = patience
        self._say = say
        self._starts: dict[str, Start] = {}
        self._started: set[str] = set()
        self._nodes_started: set[int] = set()
        self._missing = nodes
        self._told: set[str] = set()
        self._last = ""
        self._since: float | None = None

    def asks_for(self, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the pods whose events it wants to see."""
        return [pod for pod in pods if pod["metadata"]["uid"] not in self._started and not is_leaving(pod)]

    def is_complete(self) -> bool:
        """Say whether all have started, those too that have taken the place of others."""
        return self._missing == 0

    def look(
        self,
        thing: Mapping[str, Any],
        pods: Sequence[Mapping[str, Any]],
        events: Mapping[str, Sequence[Mapping[str, Any]]],
        now: float,
    ) -> None:
        """Judge what is there.

        :param pods: those that are there now.
        :param events: by the uid of what they are about.
        :param now: seconds on a clock that only goes forward.
        :raises StepError: if a pod cannot start, or not in time; it says which and why.
        """
        self._tell(events.get(thing["metadata"]["uid"], ()))
        if is_waiting(thing):  # it may have had pods, which were taken away; others are made when it may go on
            self._started.clear()
            self._nodes_started.clear()
        before = len(self._started)
        for pod in self.asks_for(pods):
            self._judge(pod, events.get(pod["metadata"]["uid"], ()), now)
        self._missing = max(self._nodes - len(self._nodes_started), len(self.asks_for(pods)))
        busy = is_waiting(thing) or any(running(pod, STAGE) for pod in pods) or len(self._started) != before
        if self._since is None or busy or self.is_complete():
            self._since = now
        if now - self._since >= self._patience:
            raise StepError(self._in_vain(thing, pods))

    def _judge(self, pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: float) -> None:
        uid = pod["metadata"]["uid"]
        start = self._starts.setdefault(
            uid, Start(self._patience, lambda line: self._say(f"node {node_of(pod)}: {line}"))
        )
        told = [given for given in events if given.get("reason") not in _UNREADY]
        try:
            if start.look(pod, told, now):
                self._started.add(uid)
                self._nodes_started.add(node_of(pod))
        except StepError as error:
            message = f"node {node_of(pod)} of {self._nodes}: {error}"
            raise StepError(message) from error

    def _tell(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            words = f"{event.get('reason')}: {event.get('message')}"
            if event.get("reason") in _REFUSED:
                message = f"the MPI operator refuses the job: {words}; correct the step or its target"
                raise StepError(message)
            if "violates PodSecurity" in words:
                message = f"no pod can be made: {words}{remedy_for(words)}"
                raise StepError(message)
            if event.get("reason") in _SILENT or words in self._told:
                continue
            self._told.add(words)
            self._say(f"the job: {words}")
            if event.get("type") == "Warning":
                self._last = words

    def _in_vain(self, thing: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
        late = f"within {self._patience:.0f} seconds (pending_timeout)"
        name = f"{thing['kind']} {thing['metadata']['name']}"
        why = f": {self._last}" if self._last else ""
        if not pods and thing["kind"] == "MPIJob":
            return f"nothing has made pods for the {name} {late}{why}; see that the MPI operator runs in the cluster"
        if first_of(pods) is None and len(pods) == self._nodes - 1:
            silent = ", ".join(called(pod) for pod in pods if not _is_ready(pod))
            return f"{silent or 'a worker'} does not answer ssh at port {SSH_PORT} {late}{why}; see that sshd runs in the image"
        missing = f"{self._nodes - len(pods)} of {self._nodes} pods of the {name} were not made {late}{why}"
        return f"{missing}{remedy_for(self._last)}"


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(given.get("type") == "Ready" and given.get("status") == "True" for given in conditions)
