"""Shows on standard error how a run goes on: one line for each finished step, and below, on a terminal, what runs."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from airflow_mlpipe.cli.report import of_run
from airflow_mlpipe.cli.show import why
from airflow_mlpipe.cli.table import duration
from airflow_mlpipe.planning.explain import summary
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.store import runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_mlpipe.store.store import Store

PLAN = "plan"
"""The task that decides reuse, in every DAG made from a definition."""


class Screen(Protocol):
    """Where progress is shown."""

    def line(self, text: str) -> None:
        """Write a line that stays."""

    def status(self, text: str) -> None:
        """Show a text at the bottom until the next one comes."""


class Progress:
    """Turns what the tasks of a run do into lines a person wants to see."""

    def __init__(self, screen: Screen, store: Store, pipeline: str, run: str) -> None:
        self._screen = screen
        self._store = store
        self._pipeline = pipeline
        self._run = run
        self._running: dict[str, float] = {}
        self._plan: RunPlan | None = None
        self._done: set[str] = set()

    def starts(self, task: str) -> None:
        """Show a step as running."""
        self._running[task] = time.monotonic()

    def ends(self, task: str, state: str) -> None:
        """Write how a step, or a try of it, has ended; of the plan, how many steps are reused."""
        self._running.pop(task, None)
        if task != PLAN:
            self._step_ends(task, state)
        elif state != "failed" and (data := runs.read_plan(self._store, self._pipeline, self._run)):
            self._plan = RunPlan.from_json(data)
            self._done = {*self._plan.reused()}
            if self._done:
                self._screen.line(f"{len(self._done)} of {len(self._plan.tasks)} steps are reused")
            for step, decision in self._plan.not_run().items():
                self._done.add(step)
                self._screen.line(f"{step} not run: {summary(decision.reasons)}")

    def log(self, line: str) -> None:
        """Write a line of the log."""
        self._screen.line(line)

    def passes(self) -> None:
        """Show what runs, and for how long it has."""
        now = time.monotonic()
        running = ", ".join(f"{task} {now - start:.0f} s" for task, start in self._running.items() if task != PLAN)
        if self._plan is None:
            self._screen.status("Airflow starts" if not self._running else "planning")
        else:
            self._screen.status(f"{len(self._done)} of {len(self._plan.tasks)} done   {running}")

    def _step_ends(self, task: str, state: str) -> None:
        if self._plan is not None and task not in self._plan.tasks:  # one of several that a step has
            if state == "failed":
                self._screen.line(f"{task} failed")
            return
        note = runs.read_note(self._store, self._pipeline, self._run, task)
        if state != "failed":
            self._done.add(task)
        if note is not None and self._plan is not None:
            self._screen.line(f"{task} {self._outcome(task, note)}")
        else:
            self._screen.line(f"{task} {state}")

    def _outcome(self, task: str, note: Mapping[str, object]) -> str:
        if self._plan is None:
            raise AssertionError
        step = next(step for step in of_run(self._plan, {task: note}).steps if step.step == task)
        took = f" in {duration(step.seconds)}" if step.outcome == "ran" else ""
        return f"{step.outcome}{took}: {why(step)}"


class PlainScreen:
    """Lines only."""

    def line(self, text: str) -> None:
        """Write a line."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def status(self, text: str) -> None:
        """Show nothing: whoever reads a file wants no status."""


@contextmanager
def screen() -> Iterator[Screen]:
    """Give what shows progress on standard error: with a living last line if that is a terminal."""
    if not sys.stderr.isatty():
        yield PlainScreen()
        return
    from airflow_mlpipe.cli.live import LiveScreen  # noqa: PLC0415 -- rich, only for a terminal

    with LiveScreen() as live:
        yield live
