"""One pod from its beginning to its end, as one process sees it; another may go on with it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_mlpipe.definitions.compute import KubernetesCompute, target_from
from airflow_mlpipe.exceptions import MlpipeError, RecordFormatError, StepError
from airflow_mlpipe.launchers.kubernetes import bringing, endings
from airflow_mlpipe.launchers.kubernetes.cluster import Cluster
from airflow_mlpipe.launchers.kubernetes.following import Follower
from airflow_mlpipe.launchers.kubernetes.identity import ATTEMPT, PodIdentity
from airflow_mlpipe.launchers.kubernetes.pod import BASE, pod_for
from airflow_mlpipe.launchers.kubernetes.starting import Start
from airflow_mlpipe.launchers.kubernetes.state import is_finished, is_leaving, is_over
from airflow_mlpipe.launchers.kubernetes.supply import Credentials, short_lived, supplies_of
from airflow_mlpipe.launchers.kubernetes.volumes import Volumes
from airflow_mlpipe.launchers.kubernetes.watching import Watching
from airflow_mlpipe.resolving.launched import Launched, complete_result
from airflow_mlpipe.runtime.output import TAIL_LINES
from airflow_mlpipe.runtime.protocol import to_json
from airflow_mlpipe.runtime.tagged import untangled
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.launchers.kubernetes.cluster import Json
    from airflow_mlpipe.launchers.kubernetes.identity import Supplies
    from airflow_mlpipe.launchers.kubernetes.printed import Printed
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec
    from airflow_mlpipe.store.log import Owner

MOST_ATTEMPTS = 6
"""How often that is done within one try of the task, the first time included."""

_INTERPRETER = "python"
LOOK_SECONDS = 1.0
SHOW_SECONDS = 10
"""How often the triggerer shows what a command has printed."""
LEAVING_SECONDS = 60.0
"""How long the rest of a pod may take beyond its grace period."""


@dataclass(frozen=True)
class Work:
    """What was begun under a claim, and where."""

    site: Site
    spec: StepSpec
    target: KubernetesCompute
    identity: PodIdentity

    @classmethod
    def of(cls, site: Site, spec: StepSpec, fingerprint: str, claim: str) -> Work:
        """Return the work of a claim. Whoever goes on with it finds it where it was begun, as it was begun."""
        held = Log.read(site.store, fingerprint).claim_of(claim)
        owner = held.owner if held else None
        begun = _begun(site, owner, claim) if owner else None
        launched, spec = spec, begun.spec if begun else spec
        python, secrets = spec.environment.interpreter or _INTERPRETER, launched.environment.secrets
        environment = replace(spec.environment, interpreter=python, secrets=secrets)
        spec = replace(spec, environment=environment, late=launched.late)  # which are of this launch
        target = target_from(spec.target)
        if not isinstance(target, KubernetesCompute):
            message = f"step {spec.step!r} runs on a {target.kind} target, not in a pod"
            raise StepError(message)
        return cls(site, spec, target, _identity(owner, spec, fingerprint, claim))

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster that the pod is at."""
        return Cluster(self.target)

    @property
    def name(self) -> str:
        """The name of the pod."""
        return self.identity.name

    @property
    def called(self) -> str:
        """How the pod is called to people."""
        return f"the pod {self.name}"

    def read(self) -> Json | None:
        """Return what is there of it; None if it is gone."""
        return self.cluster.read(self.name)

    def is_over(self, pod: Json) -> bool:
        """Say whether its command will do nothing any more."""
        return is_over(pod, BASE)

    def attempt_of(self, pod: Json | None) -> int:
        """Return for which time it was begun."""
        annotations = pod["metadata"].get("annotations") or {} if pod else {}
        return int(annotations.get(ATTEMPT, "1"))

    def lives(self) -> bool:
        """Say whether it runs, will run, or has succeeded."""
        pod = self.read()
        return pod is not None and not is_leaving(pod) and pod["status"].get("phase") != "Failed"

    def deletion(self) -> Callable[[], object]:
        """Return what deletes it, by connections of its own: for a signal handler that interrupts the others."""
        return partial(self.cluster.another_api().delete_namespaced_pod, self.name, self.cluster.namespace)

    @property
    def result(self) -> StepResult | None:
        """What the pod has published, if all of it is there."""
        return complete_result(self.site.store, self.spec, self.identity.fingerprint, self.identity.claim)

    def begin(self, secrets: Mapping[str, str], say: Callable[[str], None], attempt: int = 1) -> Json:
        """Create the pod and what it needs; where it is there already, return it, with what it may lack."""
        credentials = Credentials.of(self.site, self.spec, self.target)
        supplies = supplies_of(self.site, self.spec, self.target, credentials)
        manifest = pod_for(self.spec, self.identity, supplies)
        manifest["metadata"]["annotations"][ATTEMPT] = str(attempt)
        pod = self.cluster.read(self.name)
        fresh = pod is None
        if pod is None:
            self._send(supplies, say)
            pod = self.cluster.create(manifest)
        elif is_leaving(pod):
            say(
                f"{self.called} was deleted and is still there, as when its node does not answer; waits until it is gone"
            )
        try:
            self.put_secrets(pod["metadata"]["uid"], secrets, credentials, anew=fresh)
        except StepError:
            if fresh:
                self.cluster.delete(self.name)
            raise
        return pod

    def put_secrets(self, owner: str, secrets: Mapping[str, str], credentials: Credentials, *, anew: bool) -> None:
        """Create the short-lived Secrets.

        :param owner: the uid of what they go with.
        :param anew: whether those that are there belong to something earlier.
        """
        for secret in short_lived(self.identity, self.cluster.namespace, owner, secrets, credentials):
            self.cluster.put_secret(secret, anew=anew)

    def _send(self, supplies: Supplies, say: Callable[[str], None]) -> None:
        """Put what the pod is told into the store, and what it does not reach from where it runs."""
        mounted = {given.name for given in Volumes(self.spec, self.target, self.identity, supplies).mounted}
        spec = bringing.within_reach(self.site, self.spec, self.identity, mounted, say)
        self.site.store.write(layout.spec(self.identity.fingerprint, self.identity.claim), to_json(spec))

    def leave(self, pod: Json, attempt: int, *, shown: float | None = None, silent: bool) -> NoReturn:
        """Leave the pod to the triggerer.

        :param shown: when its log was read last, in seconds since 1970.
        :param silent: whether the triggerer must not show what it prints: it does not know the secrets in that.
        :raises TaskDeferred: always.
        """
        from airflow.sdk.exceptions import TaskDeferred  # noqa: PLC0415 -- heavy, needed only to run

        from airflow_mlpipe.launchers.kubernetes.trigger import PodTrigger  # noqa: PLC0415 -- as above

        operator = self.cluster.operator(pod, deferrable=True, logging_interval=None if silent else SHOW_SECONDS)
        operator.pod = operator.full_pod_spec
        try:
            operator.invoke_defer_method(last_log_time=None if shown is None else _moment(shown))
        except TaskDeferred as deferred:
            arguments = deferred.trigger.serialize()[1]
            trigger = PodTrigger(self.target.pending_timeout.total_seconds(), attempt, arguments)
            raise TaskDeferred(trigger=trigger, method_name="finish", timeout=deferred.timeout) from None
        raise AssertionError

    def wait(self, pod: Json, output: Printed, since: float | None = None) -> Json:
        """Wait until nothing more will come of a pod; return it as it is then, or as it was last if it is gone.

        :param since: when its log was read last, in seconds since 1970.
        :raises StepError: if it cannot start, or not in time.
        """
        with Watching(self.cluster, pod) as watching:
            if not is_over(pod, BASE):
                self._await_start(output.say)
            now = Follower(self.cluster, self.name, output, since).to_the_end()
            output.end()
            if now is None and not self.result:
                watching.sees_the_end()
            now = now or watching.last
            return now if self.result else self._settled(now)

    def _settled(self, pod: Json) -> Json:
        """Return a pod whose sidecar has ended, too: what it says of a failure is told then."""
        end = time.monotonic() + grace(pod) + LEAVING_SECONDS
        while not is_finished(pod) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS / 2)
            now = self.cluster.read(self.name)
            if now is None:
                break
            pod = now
        return pod

    def _await_start(self, say: Callable[[str], None]) -> None:
        start = Start(self.target.pending_timeout.total_seconds(), say)
        while pod := self.cluster.read(self.name):
            if start.look(pod, self.cluster.events(self.name, pod["metadata"]["uid"]), time.monotonic()):
                return
            time.sleep(LOOK_SECONDS)

    def taken_away(self, pod: Json | None) -> str | None:
        """Return what took the pod away that had done nothing wrong, in words.

        :param pod: as it was last; None if nobody knows.
        """
        if words := endings.disruption(pod) if pod else None:
            return words
        if pod is None:
            return endings.taken(self.cluster.events(self.name))
        return endings.taken(self.cluster.events(self.name, pod["metadata"]["uid"])) if is_leaving(pod) else None

    def error(self, pod: Json | None, output: Printed) -> MlpipeError:
        """Return the error for a pod that has ended without a result."""
        pieces = untangled(self.spec)
        printed = pieces.feed(self.cluster.last_lines(self.name, BASE, TAIL_LINES)) + pieces.rest()
        lines = output.last_lines(printed) or output.tail.lines()
        return endings.failed(pod, self.name, lines, self.spec.distribution)

    def finish(self) -> None:
        """Remove the pod, and what was there for it alone."""
        self.remove()
        self.forget()

    def forget(self) -> None:
        """Remove what was brought to the store for it alone."""
        bringing.forget(self.site.store, self.spec, self.identity)

    def remove(self, *, wait: bool = False) -> None:
        """Delete the pod; the Secrets that it owns go with it."""
        pod = self.cluster.read(self.name) if wait else None
        self.cluster.delete(self.name, wait=grace(pod) + LEAVING_SECONDS if pod else 0)


def grace(pod: Json) -> float:
    """Return the seconds that the containers of a pod have after SIGTERM."""
    return float(pod["spec"].get("terminationGracePeriodSeconds") or 0)


def _begun(site: Site, owner: Owner, claim: str) -> Launched | None:
    with suppress(RecordFormatError):
        known = Launched.read(site.store, owner)
        return known if known is not None and known.work == claim else None
    return None


def _identity(owner: Owner | None, spec: StepSpec, fingerprint: str, claim: str) -> PodIdentity:
    """Return who the pod is: named after the step that began it, whoever goes on with it."""
    if owner is None:
        return PodIdentity(spec.pipeline, "", spec.step, fingerprint, claim)
    index = (owner.task_instance or "").rpartition("/")[2]
    mapped = int(index) if index.isdecimal() else -1
    return PodIdentity(owner.pipeline, owner.run, owner.step, fingerprint, claim, mapped)


def _moment(seconds: float) -> Any:  # noqa: ANN401 -- pendulum's DateTime
    import pendulum  # noqa: PLC0415 -- heavy, needed only to run

    return pendulum.from_timestamp(seconds)
