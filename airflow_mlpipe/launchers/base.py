"""What every launcher can do: run a step on one kind of compute target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec


class Launcher(Protocol):
    """Runs one step and publishes its outputs."""

    def launch(
        self,
        spec: StepSpec,
        fingerprint: str,
        claim: str,
        secrets: Mapping[str, str],
        log: Callable[[str], None],
    ) -> StepResult:
        """Run a complete spec; return its result with the outputs published.

        :param fingerprint: of the spec; with ``claim`` it says where outputs are published.
        :param secrets: values of the environment's secret variables; they reach the process alone.
        :param log: takes each line the step prints, as it is printed.
        :raises StepError: if the step does not succeed; nothing is published then.
        :raises DataError: if an input is missing or has changed.
        """
        ...

    def kill(self) -> None:
        """End everything `launch` has started; may be called at any time, more than once."""
        ...


@runtime_checkable
class Deferring(Launcher, Protocol):
    """One whose work goes on without the worker: in a pod, say.

    `launch` and `resume` may raise Airflow's ``TaskDeferred``, as an operator of a provider does inside them. The claim
    stays held then; the trigger runs in the triggerer, and what it tells is given to `resume`, in another process and by
    another launcher of the same kind: nothing may be kept in memory. `launch` may be called again for a claim whose
    worker has ended; where its work goes on or has ended, that is used, and nothing is begun twice.

    Whoever publishes (a sidecar, or `resume`) writes the result last, by `airflow_mlpipe.runtime.results`: whoever finds
    it may record it.
    """

    def resume(  # noqa: PLR0913 -- what `launch` gets, and what happened since
        self,
        spec: StepSpec,
        fingerprint: str,
        claim: str,
        secrets: Mapping[str, str],
        log: Callable[[str], None],
        method: str,
        event: Any,  # noqa: ANN401 -- whatever the trigger tells
    ) -> StepResult:
        """Go on after ``TaskDeferred``; return the result with the outputs published.

        :param method: the ``method_name`` of what was raised.
        :param event: what the trigger told.
        :raises StepError: if the step does not succeed.
        """
        ...

    def lives(self, spec: StepSpec, fingerprint: str, claim: str) -> bool:
        """Say whether the work that was begun under a claim goes on, whoever began it."""
        ...

    def end(self, spec: StepSpec, fingerprint: str, claim: str) -> None:
        """End the work that was begun under a claim, whoever began it; it may have ended, or never begun."""
        ...
