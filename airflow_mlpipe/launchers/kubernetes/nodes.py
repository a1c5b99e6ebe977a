"""A step on many nodes from its beginning to its end, as one process sees it; another may go on with it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlpipe.exceptions import MlpipeError, StepError
from airflow_mlpipe.launchers.kubernetes import endings, fates
from airflow_mlpipe.launchers.kubernetes.following import Follower
from airflow_mlpipe.launchers.kubernetes.gathering import Gathering, has_ended, is_over, is_waiting
from airflow_mlpipe.launchers.kubernetes.group import Group
from airflow_mlpipe.launchers.kubernetes.identity import JOB, MPI_JOB
from airflow_mlpipe.launchers.kubernetes.indexed import job_for, service_for
from airflow_mlpipe.launchers.kubernetes.members import is_worker, mark, node_of
from airflow_mlpipe.launchers.kubernetes.mpijob import mpijob_for
from airflow_mlpipe.launchers.kubernetes.pod import BASE, pod_for
from airflow_mlpipe.launchers.kubernetes.sightings import Sightings
from airflow_mlpipe.launchers.kubernetes.state import ended, is_leaving, running
from airflow_mlpipe.launchers.kubernetes.supply import Credentials, supplies_of
from airflow_mlpipe.launchers.kubernetes.work import LEAVING_SECONDS, LOOK_SECONDS, SHOW_SECONDS, Work, grace
from airflow_mlpipe.runtime.output import TAIL_LINES
from airflow_mlpipe.runtime.protocol import DistributionSpec
from airflow_mlpipe.runtime.tagged import untangled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

    from airflow_mlpipe.launchers.kubernetes.cluster import Cluster
    from airflow_mlpipe.launchers.kubernetes.printed import Printed, Taking
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepSpec

Json = dict[str, Any]

MOST_FOLLOWED = 16
"""Of how many nodes the output is shown while they run; that of the others is read when they fail."""

_SETTLING_SECONDS = 15.0
"""How long the other nodes may take to end after one has failed: one of them may have been the first."""
_JOIN_SECONDS = 10.0


def work_of(site: Site, spec: StepSpec, fingerprint: str, claim: str) -> Work:
    """Return the work of a claim: a pod, or what makes a pod for each node of a step."""
    work = Work.of(site, spec, fingerprint, claim)
    given = work.spec.distribution
    if given is None or given.nodes == 1:
        return work
    identity = replace(work.identity, made=MPI_JOB if given.kind == "mpi" else JOB)
    return NodesWork(work.site, work.spec, work.target, identity)


class NodesWork(Work):
    """What was begun under a claim on many nodes: ``{"thing": the Job or MPIJob, "pods": [...]}`` is what is seen of it."""

    @cached_property
    def group(self) -> Group:
        """The Job or MPIJob."""
        return Group(self.cluster, self.identity)

    @property
    def given(self) -> DistributionSpec:
        """How the step is spread over nodes."""
        return self.spec.distribution or DistributionSpec("none")

    @property
    def called(self) -> str:
        """How it is called to people."""
        return f"{self.group.called} of {self.given.nodes} pods"

    def read(self) -> Json | None:
        """Return what is there of it; None if it is gone."""
        thing = self.group.read()
        return None if thing is None else self._seen(thing)

    def _seen(self, thing: Json) -> Json:
        return {"thing": thing, "pods": self.group.pods(super().attempt_of(thing))}

    def is_over(self, pod: Json) -> bool:
        """Say whether its commands will do nothing any more."""
        return is_over(pod["thing"], pod["pods"])

    def attempt_of(self, pod: Json | None) -> int:
        """Return for which time it was begun."""
        return super().attempt_of(pod["thing"] if pod else None)

    def lives(self) -> bool:
        """Say whether it runs, will run, or has succeeded."""
        thing = self.group.read()
        if thing is None or is_leaving(thing):
            return False
        return self.result is not None or not self.is_over(self._seen(thing))

    def deletion(self) -> Callable[[], object]:
        """Return what deletes it, by connections of its own: for a signal handler that interrupts the others."""
        return self.group.deletion()

    def begin(self, secrets: Mapping[str, str], say: Callable[[str], None], attempt: int = 1) -> Json:
        """Create it and what it needs; where it is there already, return it, with what it may lack."""
        credentials = Credentials.of(self.site, self.spec, self.target)
        supplies = supplies_of(self.site, self.spec, self.target, credentials)
        manifest = (mpijob_for if self.given.kind == "mpi" else job_for)(self.spec, self.identity, supplies)
        mark(manifest, attempt)
        thing = self.group.read()
        fresh = thing is None
        if thing is None:
            self._send(supplies, say)
            thing = self.group.create(manifest)
        owner = thing["metadata"]["uid"]
        try:
            if self.identity.made == JOB:
                self.group.put_service(service_for(self.identity, owner), anew=fresh)
            self.put_secrets(owner, secrets, credentials, anew=fresh)
        except StepError:
            if fresh:
                self.group.delete()
            raise
        return self._seen(thing)

    def leave(self, pod: Json, attempt: int, *, shown: float | None = None, silent: bool) -> NoReturn:
        """Leave it to the triggerer; see `Work.leave`."""
        from airflow.sdk.exceptions import TaskDeferred  # noqa: PLC0415 -- heavy, needed only to run

        from airflow_mlpipe.launchers.kubernetes.nodes_trigger import NodesTrigger  # noqa: PLC0415 -- as above

        supplies = supplies_of(self.site, self.spec, self.target, Credentials())
        one = pod_for(self.spec, self.identity, supplies, ["none"])  # how the cluster is reached is asked for a pod
        operator = self.cluster.operator(one, deferrable=True)
        operator.pod = operator.full_pod_spec
        try:
            operator.invoke_defer_method()
        except TaskDeferred as deferred:
            trigger = NodesTrigger(
                patience=self.target.pending_timeout.total_seconds(),
                attempt=attempt,
                nodes=self.given.nodes,
                made=pod["thing"]["metadata"]["name"],
                place=self.group.place,
                interval=None if silent else SHOW_SECONDS,
                shown=shown,
                arguments=deferred.trigger.serialize()[1],
            )
            raise TaskDeferred(trigger=trigger, method_name="finish", timeout=deferred.timeout) from None
        raise AssertionError

    def wait(self, pod: Json, output: Printed, since: float | None = None) -> Json:
        """Wait until nothing more will come of it; return what was seen of it last, pods that are gone too."""
        gathering = Gathering(self.given.nodes, self.target.pending_timeout.total_seconds(), output.say)
        followed = _Followed(self.cluster, output, since, mark=self.given.kind != "mpi")
        with _Seen(self.group, self.attempt_of(pod), pod["pods"]) as seen:
            while True:
                thing, pods = self.group.read(), seen.now()
                followed.follow(pods)
                if is_over(thing, pods) or thing is None:
                    break
                if is_waiting(thing):
                    seen.forget()
                events = {} if gathering.is_complete() else self._events(thing, gathering.asks_for(pods))
                gathering.look(thing, pods, events, time.monotonic())
                time.sleep(LOOK_SECONDS)
            thing = thing if self.result else self._looked_on(thing, seen)
            followed.end()
            return {"thing": thing or pod["thing"], "pods": seen.pods()}

    def _looked_on(self, thing: Json | None, seen: _Seen) -> Json | None:
        """Look on until the Job says that it has ended, so that it is known which pod was the first to fail."""
        end = time.monotonic() + _SETTLING_SECONDS
        while thing is not None and not has_ended(thing) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS / 2)
            thing = self.group.read()
            seen.now()
        return thing

    def _events(self, thing: Json, pods: Sequence[Mapping[str, Any]]) -> dict[str, list[Json]]:
        """Return what happened to the Job and to some of its pods, by their uid."""
        both = [thing["metadata"], *(pod["metadata"] for pod in pods)]
        return {given["uid"]: self.cluster.events(given["name"], given["uid"]) for given in both}

    def taken_away(self, pod: Json | None) -> str | None:
        """Return what took one of its pods away that had done nothing wrong, in words."""
        if pod is None:
            return None
        if words := fates.disruption(pod["pods"]):
            return words
        gone = [(given["metadata"]["name"], given["metadata"]["uid"]) for given in pod["pods"] if is_leaving(given)]
        return next(filter(None, (endings.taken(self.cluster.events(*each)) for each in gone)), None)

    def error(self, pod: Json | None, output: Printed) -> MlpipeError:
        """Return the error for nodes that have ended without a result."""
        pods = pod["pods"] if pod else []
        lines = output.last_lines(self._printed(pods)) or output.tail.lines()
        return fates.failed(pods, self.group.called, lines, self.given)

    def _printed(self, pods: Sequence[Json]) -> bytes:
        """Return what all commands have printed last, in the order of time."""
        telling = [pod for pod in pods if not is_worker(pod) or pod["status"].get("phase") == "Failed"]
        telling = sorted(telling, key=lambda pod: not ended(pod, BASE))[:MOST_FOLLOWED]
        logs = {
            node_of(pod): self.cluster.last_lines(pod["metadata"]["name"], BASE, TAIL_LINES, stamped=True)
            for pod in telling
        }
        pieces = untangled(self.spec)
        lines = fates.merged({node: log for node, log in logs.items() if log})
        return b"".join(pieces.feed(line + b"\n") for line in lines) + pieces.rest()

    def remove(self, *, wait: bool = False) -> None:
        """Delete it; its pods, its service and its Secrets go with it."""
        pods = self.group.pods() if wait else []
        self.group.delete(wait=max(map(grace, pods), default=0) + LEAVING_SECONDS if wait else 0)


class _Followed:
    """The logs of the nodes, each followed by a thread of its own.

    :param mark: whether each line is to begin with the number of its node.
    """

    def __init__(self, cluster: Cluster, output: Printed, since: float | None, *, mark: bool) -> None:
        self._cluster = cluster
        self._output = output
        self._since = since
        self._mark = mark
        self._threads: dict[str, threading.Thread] = {}
        self._closed = threading.Event()

    def follow(self, pods: Sequence[Json]) -> None:
        """Begin to follow those whose command has begun."""
        for pod in pods:
            uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
            begun = running(pod, BASE) or ended(pod, BASE)
            if uid in self._threads or is_worker(pod) or not begun or len(self._threads) >= MOST_FOLLOWED:
                continue
            mark = b"[node %d] " % node_of(pod) if self._mark else b""
            follower = Follower(self._cluster, name, _Marked(self._output, mark, self._closed), self._since)
            self._threads[uid] = threading.Thread(target=self._run, args=(follower,), name="log", daemon=True)
            self._threads[uid].start()

    def _run(self, follower: Follower) -> None:
        with suppress(StepError):  # the cluster does not answer: who waits for the pods says so
            follower.to_the_end()

    def end(self) -> None:
        """Wait until all has been shown that was printed before."""
        end = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads.values():
            thread.join(timeout=max(0.0, end - time.monotonic()))
        self._closed.set()
        self._output.end()


class _Marked:
    """Hands on what one node prints, until it is closed."""

    def __init__(self, output: Taking, mark: bytes, closed: threading.Event) -> None:
        self._output = output
        self._mark = mark
        self._closed = closed

    def take(self, line: bytes) -> None:
        """Take a line."""
        if not self._closed.is_set():
            self._output.take(self._mark + line)


class _Seen(Sightings):
    """What is seen of the pods while a block is executed, also between two looks."""

    def __init__(self, group: Group, attempt: int, pods: Sequence[Json]) -> None:
        super().__init__(pods)
        self._group = group
        self._attempt = attempt
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pods", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # the thread ends with its connection

    def now(self) -> list[Json]:
        """Look, and return those that are there."""
        pods = self._group.pods(self._attempt)
        self.take(pods)
        return pods

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(StepError):
                for _, pod in self._group.watched(self._attempt):
                    self.take([pod])
                    if self._ended.is_set():
                        return
            self._ended.wait(LOOK_SECONDS)
