"""A small pipeline in a folder, and the commands called on it in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from airflow_mlpipe.cli.app import app
from airflow_mlpipe.cli.arguments import Moment, read_parameters
from airflow_mlpipe.cli.project import Project as OpenProject
from airflow_mlpipe.resolving.planner import RunPlan, make_plan

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """\
name: small
parameters:
  factor: {type: number, default: 2.0, minimum: 0}
steps:
  first:
    kind: python_script
    source_directory: src/first
    script_name: first.py
    arguments: ["${{ inputs.raw }}", "${{ outputs.clean }}"]
    inputs: {raw: {path: raw.txt}}
    outputs: {clean: {kind: file}}
  second:
    kind: python_script
    source_directory: src/second
    script_name: second.py
    arguments: ["${{ inputs.data }}", "${{ outputs.model }}", "${{ parameters.factor }}"]
    inputs: {data: "${{ steps.first.outputs.clean }}"}
    outputs: {model: {}}
"""

FIRST = """\
import sys
text = open(sys.argv[1]).read()
open(sys.argv[2], "w").write(text.strip())
"""

SECOND = """\
import os, sys
from mlpipe import Run
number = float(open(sys.argv[1]).read()) * float(sys.argv[3])
os.mkdir(sys.argv[2])
open(sys.argv[2] + "/model.txt", "w").write(str(number))
Run.get_context().log("number", number)
"""


@dataclass(frozen=True)
class Project:
    """A folder with the pipeline ``small``."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Project:
        project = cls(folder)
        project.write("small.yaml", PIPELINE)
        project.write("raw.txt", "21\n")
        project.write("src/first/first.py", FIRST)
        project.write("src/second/second.py", SECOND)
        return project

    @property
    def file(self) -> Path:
        return self.folder / "small.yaml"

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text("utf-8")
        assert old in text
        self.write(path, text.replace(old, new))

    def call(self, command: str, *arguments: str, code: int = 0) -> Any:
        """Call a command on the pipeline, and expect an exit code."""
        return call(command, str(self.file), *arguments, code=code)

    def json(self, command: str, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.call(command, *arguments, "--json", code=code).stdout)


def call(*arguments: str, code: int = 0) -> Any:
    """Call the command line in this process, and expect an exit code."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exit_code != code:
        message = f"exit code {result.exit_code}:\n{result.stdout}\n{result.stderr}"
        raise AssertionError(message) from result.exception
    return result


def by_step(report: Any) -> dict[str, Any]:
    return {step["step"]: step for step in report["steps"]}


def outcomes(report: Any) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in report["steps"]}


def opened(project: Project) -> OpenProject:
    return OpenProject.open(project.file)


def planned(project: Project, run: str = "manual__2025-01-01T00:00:00+00:00") -> RunPlan:
    """Return the plan of a run in which everything has to run; it is not kept."""
    found = opened(project)
    values = Moment.now().values(read_parameters(found.pipeline, ()))
    return make_plan(found.site, found.pipeline, run, values, dry=True)


def note(outcome: str = "ran", **fields: Any) -> dict[str, Any]:
    """Return a note as a step leaves it."""
    content = {"kind": "file", "digest": "sha256:" + "1" * 64, "size": 1200, "files": 1}
    return {
        "outcome": outcome,
        "fingerprint": "f" * 64,
        "reasons": [{"component": "code", "what": "first.py", "old": "a", "new": "b"}],
        "seconds": 1.5,
        "outputs": {"clean": {"path": "outputs/f/c/clean", "content": content}},
        "metrics": {"rmse": 0.5},
        "made_by": {"pipeline": "small", "run": "manual__2025-01-01T00:00:00+00:00", "step": "first"},
        **fields,
    }


def failed_note(error: str = "the command ended with exit code 3") -> dict[str, Any]:
    return {"outcome": "failed", "error": error, "reasons": []}
