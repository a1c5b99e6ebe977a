"""A small pipeline project in the DAG folder of a running Airflow."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.harness import Harness

STEP = """
import argparse, json, os, pathlib, time

parser = argparse.ArgumentParser()
parser.add_argument("--in", dest="source")
parser.add_argument("--out", dest="target")
parser.add_argument("--c", type=float, default=1.0)
args = parser.parse_args()
text = pathlib.Path(args.source).read_text()
pathlib.Path(args.target).write_text(f"{text.strip()} NAME {args.c}\\n")
"""

DEFINITION = """
name: {name}
{head}
parameters:
  c: {{type: number, default: 1.0, minimum: 0, description: How much}}
steps:
  prepare:
    kind: python_script
    source_directory: src_prepare
    script_name: step.py
    arguments: [--in, "${{{{ inputs.raw }}}}", --out, "${{{{ outputs.clean }}}}"]
    inputs: {{raw: raw.txt}}
    outputs: {{clean: {{}}}}
  train:
    kind: python_script
    source_directory: src_train
    script_name: step.py
    arguments: [--in, "${{{{ inputs.data }}}}", --out, "${{{{ outputs.model }}}}", --c, "${{{{ parameters.c }}}}"]
    inputs: {{data: "${{{{ steps.prepare.outputs.clean }}}}"}}
    outputs: {{model: {{{output}}}}}
    {train}
  report:
    kind: command
    command: cp ${{{{ inputs.model }}}} ${{{{ outputs.report }}}}
    inputs: {{model: "${{{{ steps.train.outputs.model }}}}"}}
    outputs: {{report: {{}}}}
"""

LOADER = """
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "{name}_project")  # one DAG for each definition
{more}
"""


@dataclass(frozen=True)
class Project:
    """A project with one pipeline: prepare -> train -> report."""

    harness: Harness
    name: str

    @property
    def folder(self) -> Path:
        return self.harness.dags_folder / f"{self.name}_project"

    @classmethod
    def create(cls, harness: Harness, name: str, **options: Any) -> Project:
        """Write a project and wait until its DAG is there.

        :param head: more fields of the pipeline; ``train`` of the step, ``output`` of its output, ``more`` lines of
            the DAG file.
        """
        project = cls(harness, name)
        project.write("raw.txt", name)  # else it would reuse what another pipeline made of the same
        project.write_step("prepare", STEP)
        project.write_step("train", STEP)
        project.define(**options)
        harness.write_dag(name, LOADER.format(name=name, more=textwrap.dedent(options.get("more", ""))), timeout=90)
        return project

    def define(self, head: str = "", train: str = "", output: str = "", **_: Any) -> None:
        self.write(f"{self.name}.yaml", DEFINITION.format(name=self.name, head=head, train=train, output=output))

    def write(self, path: str, text: str) -> None:
        self.harness.write(f"{self.name}_project/{path}", text)

    def write_step(self, step: str, text: str) -> None:
        self.write(f"src_{step}/step.py", text.replace("NAME", step))

    def run(self, conf: dict[str, Any] | None = None, timeout: float = 120) -> tuple[str, dict[str, str | None]]:
        """Run it, expect success, and return the run's id and the states of its tasks."""
        run_id, state = self.harness.run(self.name, conf, timeout)
        states = self.harness.task_states(self.name, run_id)
        assert state == "success", (states, self.logs(run_id))
        return run_id, states

    def logs(self, run_id: str) -> str:
        states = self.harness.task_states(self.name, run_id)
        return "\n".join(
            f"--- {task}\n{self.harness.log(self.name, run_id, task)}"
            for task, state in states.items()
            if state not in {None, "skipped", "removed", "upstream_failed"}
        )
