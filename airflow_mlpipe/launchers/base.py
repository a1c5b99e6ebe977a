"""What every launcher can do: run a step on one kind of compute target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

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
