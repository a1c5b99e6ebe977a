"""Run a pipeline from Python, and wait for it.

The whole of it::

    run = Experiment("digits").submit(Pipeline(name="digits", steps=[prepare, train]))
    run.wait_for_completion(show_output=True)
    model = run.find_step("train").outputs["model"].path

A run is the command ``mlpipe run`` in a process of its own, so what it leaves is what the command would have left:
``mlpipe explain`` and a scheduled DAG of the same pipeline know its records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_mlpipe.cli.project import default_private, workspace_file
from airflow_mlpipe.definitions import dump, find_workspace, parameter_values
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import MlpipeError, StepError
from airflow_mlpipe.naming import path_segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.definitions import Pipeline

Status: TypeAlias = Literal["Running", "Finished", "Failed", "Canceled"]

_MAIN = "from airflow_mlpipe.cli import main; main()"
_PAUSE = 0.1


@dataclass(frozen=True)
class Output:
    """One output of a step: where it lies and what it is. ``size`` is in bytes."""

    uri: str
    digest: str
    size: int
    files: int

    @property
    def path(self) -> Path:
        """Where it lies on this machine.

        :raises ValueError: if it lies elsewhere; then only ``uri`` says where.
        """
        if not self.uri.startswith("file://"):
            message = (
                f"{self.uri} is not on this machine: open it with fsspec, or copy it with mlpipe outputs --copy-to"
            )
            raise ValueError(message)
        return Path(self.uri.removeprefix("file://"))


@dataclass(frozen=True)
class StepRun:
    """What became of one step: ``outcome`` is reused, ran, waited, failed or not_run; ``seconds`` what its command took."""

    name: str
    outcome: str
    reasons: Sequence[Mapping[str, str | None]] = ()
    seconds: float | None = None
    fingerprint: str | None = None
    outputs: Mapping[str, Output] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


class Experiment:
    """The name that runs are grouped under.

    :param workspace: the workspace file; by default as ``mlpipe run`` finds it.
    """

    def __init__(self, name: str, *, workspace: str | Path | None = None) -> None:
        self.name = name
        self.workspace = Path(workspace) if workspace else None

    def submit(
        self,
        pipeline: Pipeline,
        *,
        pipeline_parameters: Mapping[str, Any] | None = None,
        regenerate_outputs: bool | Sequence[str] = False,
        jobs: int = 1,
    ) -> PipelineRun:
        """Start a run of a pipeline and return at once.

        :param pipeline_parameters: values of parameters that have another one than their default.
        :param regenerate_outputs: True for every step, or the names of steps, that must not be reused.
        :param jobs: how many steps may run side by side.
        :raises ParameterError: if a value is refused.
        """
        parameter_values(pipeline, pipeline_parameters or {})
        file = self._write(pipeline)
        options = [f"--folder={pipeline.folder.absolute()}", f"--jobs={jobs}"]
        options += [f"--workspace={self.workspace.absolute()}"] if self.workspace else []
        options += [f"--parameter={name}={_text(value)}" for name, value in (pipeline_parameters or {}).items()]
        steps = ["all"] if regenerate_outputs is True else (regenerate_outputs or ())
        options += [f"--regenerate={step}" for step in steps]
        return PipelineRun(pipeline.name, [str(file), "--json", *options])

    def _write(self, pipeline: Pipeline) -> Path:
        """Write the definition to the private folder of the pipeline's own; its relative paths keep their meaning."""
        workspace = find_workspace(workspace_file(self.workspace), pipeline.folder, None)
        folder = default_private(workspace.folder) / "experiments"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        named = pipeline if pipeline.experiment else pipeline.model_copy(update={"experiment": self.name})
        text = dump(named)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]  # an earlier run of it may still be reading its own
        file = folder / f"{path_segment(self.name)}.{path_segment(pipeline.name)}.{digest}.yaml"
        with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", delete=False) as fresh:
            fresh.write(text)
        Path(fresh.name).replace(file)
        return file


class PipelineRun:
    """A run that was submitted. It goes on if nobody waits for it."""

    def __init__(self, pipeline: str, arguments: Sequence[str]) -> None:
        self.pipeline = pipeline
        folder = Path(tempfile.mkdtemp(prefix="mlpipe-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._out = folder / "out.json"
        self._log = folder / "log"
        self._shown = 0
        self._canceled = False
        self._report: dict[str, Any] | None = None
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "run", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )

    def get_status(self) -> Status:
        """Return ``Running``, ``Finished``, ``Failed`` or ``Canceled``."""
        code = self._process.poll()
        if code is None:
            return "Running"
        if self._canceled:
            return "Canceled"
        return "Failed" if code else "Finished"

    def wait_for_completion(self, *, show_output: bool = False, raise_on_error: bool = True) -> Status:
        """Wait until the run has ended, and return how.

        Ctrl-C while waiting cancels the run.

        :param show_output: whether to show on standard error what ``mlpipe run`` shows.
        :raises StepError: if a step failed; the message names it and has its last lines.
        :raises MlpipeError: if nothing could be run.
        """
        try:
            while self.get_status() == "Running":
                if show_output:
                    self._show()
                time.sleep(_PAUSE)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if show_output:
            self._show()
        if raise_on_error and self.get_status() == "Failed":
            raise self._error()
        return self.get_status()

    def cancel(self) -> None:
        """End the run and all that it has started."""
        if self._process.poll() is None:
            self._canceled = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait()

    @property
    def run_id(self) -> str:
        """The id of the run, which ``mlpipe explain --run`` takes; known when it has ended."""
        return str(self._read()["run_id"])

    @property
    def steps(self) -> tuple[StepRun, ...]:
        """The steps in the order of the definition; known when the run has ended.

        :raises MlpipeError: if it has not ended, or nothing could be run.
        """
        return tuple(_step(data) for data in self._read()["steps"])

    def find_step(self, name: str) -> StepRun:
        """Return one step.

        :raises KeyError: if there is none of that name; the message names the nearest.
        """
        steps = {step.name: step for step in self.steps}
        if name not in steps:
            message = f"{self.pipeline} has no step {name!r}. {did_you_mean(name, steps)}"
            raise KeyError(message)
        return steps[name]

    def _read(self) -> dict[str, Any]:
        if self._report is None:
            if self.get_status() == "Running":
                message = "the run has not ended yet: call wait_for_completion() first"
                raise MlpipeError(message)
            content = self._out.read_text("utf-8")
            if not content:
                raise self._error()
            self._report = json.loads(content)
        return self._report

    def _error(self) -> MlpipeError:
        text = self._log.read_text("utf-8", errors="replace").strip()
        if self._out.stat().st_size:
            failed = [step.name for step in self.steps if step.outcome == "failed"]
            return StepError(f"{', '.join(failed) or 'a step'} of {self.pipeline} failed:\n{text}")
        return MlpipeError(f"{self.pipeline} could not be run: {text.removeprefix('mlpipe: ')}")

    def _show(self) -> None:
        content = self._log.read_text("utf-8", errors="replace")
        sys.stderr.write(content[self._shown :])
        sys.stderr.flush()
        self._shown = len(content)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _step(data: Mapping[str, Any]) -> StepRun:
    outputs = {name: Output(**output) for name, output in data["outputs"].items()}
    return StepRun(**{"name": data["step"], **{k: v for k, v in data.items() if k != "step"}, "outputs": outputs})
