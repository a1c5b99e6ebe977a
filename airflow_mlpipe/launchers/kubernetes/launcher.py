"""Runs a step in a pod, around which the provider's KubernetesPodOperator is put.

The pod does everything by itself: it brings its inputs and publishes its outputs, so that what was begun is not lost
with a worker. All that is kept of it between two processes is its name, which follows from the claim it was begun under.
That a step has succeeded is told by its result in the store, never by the phase of its pod.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import MlpipeError, StepStoppedError
from airflow_mlpipe.launchers.ending import hidden
from airflow_mlpipe.launchers.kubernetes.nodes import work_of
from airflow_mlpipe.launchers.kubernetes.printed import Printed
from airflow_mlpipe.launchers.kubernetes.work import MOST_ATTEMPTS
from airflow_mlpipe.runtime.pod import failure
from airflow_mlpipe.runtime.tagged import untangled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.launchers.kubernetes.cluster import Json
    from airflow_mlpipe.launchers.kubernetes.work import Work
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec


@dataclass(frozen=True)
class Told:
    """What the trigger tells; nothing where the claim was lost, or it was cut off."""

    error: MlpipeError | None = None
    since: float | None = None
    attempt: int = 1
    taken: str | None = None

    @classmethod
    def of(cls, event: Any) -> Told:  # noqa: ANN401 -- whatever the trigger tells
        """Return what an event says."""
        if not isinstance(event, dict):
            return cls()
        error = failure.load(event["error"]) if event.get("error") else None
        return cls(error, event.get("since"), int(event.get("attempt", 1)), event.get("taken"))


class KubernetesLauncher:
    """Runs one step at a time in a pod, which publishes its outputs when it succeeds."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._killed = False
        self._delete: Callable[[], object] | None = None

    def launch(
        self, spec: StepSpec, fingerprint: str, claim: str, secrets: Mapping[str, str], log: Callable[[str], None]
    ) -> StepResult:
        """Run a step to its end, or go on with the pod that was begun under this claim.

        :raises TaskDeferred: if the target is deferrable, as soon as the pod is there.
        :raises StepError: if the step does not succeed, or no pod can be had; it says what to do.
        :raises DataError: if an input is missing or has changed.
        """
        work = work_of(self._site, spec, fingerprint, claim)
        with self._answering(work, secrets, log) as output:
            if result := work.result:
                work.finish()
                return result
            return self._see_to_its_end(work, self._begin(work, secrets, log), secrets, output)

    def resume(  # noqa: PLR0913 -- what `launch` gets, and what happened since
        self,
        spec: StepSpec,
        fingerprint: str,
        claim: str,
        secrets: Mapping[str, str],
        log: Callable[[str], None],
        method: str,  # noqa: ARG002 -- there is one
        event: Any,  # noqa: ANN401 -- whatever the trigger tells
    ) -> StepResult:
        """Go on when the trigger has told something; see `launch`."""
        work = work_of(self._site, spec, fingerprint, claim)
        told = Told.of(event)
        with self._answering(work, secrets, log) as output:
            if told.error is not None and work.result is None:
                raise told.error
            pod = work.read()
            return self._see_to_its_end(work, pod, secrets, output, told)

    def lives(self, spec: StepSpec, fingerprint: str, claim: str) -> bool:
        """Say whether there is a pod of a claim that runs, will run, or has succeeded."""
        return work_of(self._site, spec, fingerprint, claim).lives()

    def end(self, spec: StepSpec, fingerprint: str, claim: str) -> None:
        """Delete the pod of a claim, if there is one."""
        work_of(self._site, spec, fingerprint, claim).finish()

    def kill(self) -> None:
        """Delete the pod; may be called at any time, more than once, by a signal handler."""
        self._killed = True
        self._delete_quietly()

    @contextmanager
    def _answering(self, work: Work, secrets: Mapping[str, str], log: Callable[[str], None]) -> Iterator[Printed]:
        """Be ready to be killed in a block; if it fails, no pod is left behind. Yield what takes the command's output."""
        from airflow.sdk.exceptions import TaskDeferred  # noqa: PLC0415 -- heavy, needed only to run

        output = Printed(secrets.values(), log, untangled(work.spec))
        with hidden(output.hide):
            self._delete = work.deletion()
            try:
                self._check()
                yield output
            except TaskDeferred:
                raise
            except BaseException:
                self._delete_quietly()
                with suppress(Exception):  # retention finds it
                    work.forget()
                raise

    def _begin(self, work: Work, secrets: Mapping[str, str], log: Callable[[str], None]) -> Json:
        there = work.read()
        pod = work.begin(secrets, log)
        self._check()
        doing = "goes on with" if there else "has begun"
        log(f"{doing} {work.called} in the namespace {work.cluster.namespace}")
        return pod

    def _see_to_its_end(
        self, work: Work, pod: Json | None, secrets: Mapping[str, str], output: Printed, told: Told | None = None
    ) -> StepResult:
        """Wait for a pod, here or in the triggerer; where others take it away, begin it anew.

        :param pod: None if it is gone.
        """
        attempt, since = told.attempt if told else work.attempt_of(pod), told.since if told else None
        taken = told.taken if told else None
        while True:
            if pod is not None:
                if work.target.deferrable and not work.is_over(pod):
                    work.leave(pod, attempt, shown=since, silent=bool(secrets))
                pod = work.wait(pod, output, since)
                self._check()
            if result := work.result:
                work.finish()
                return result
            words = work.taken_away(pod) or taken
            if words is None or attempt >= MOST_ATTEMPTS:
                raise work.error(pod, output)
            attempt, since, taken = attempt + 1, None, None
            output.say(
                f"the pod was taken away: {words}; it is begun anew (at most {MOST_ATTEMPTS - attempt} more times)"
            )
            work.remove(wait=True)
            pod = work.begin(secrets, output.say, attempt)

    def _delete_quietly(self) -> None:
        if self._delete is not None:
            with suppress(Exception):  # there is none, or nobody answers: then whoever comes next looks after it
                self._delete()

    def _check(self) -> None:
        if self._killed:
            self._delete_quietly()
            message = "the step was stopped"
            raise StepStoppedError(message)
