"""`mlpipe run` of 100 steps against `dvc repro` of the same 100 stages: with nothing to do, and when all of them run."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.shapes import step_name, upstream_of
from tests.benchmarks.table import Row, Target, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.dvc import Dvc

pytestmark = pytest.mark.benchmark

STEPS = 100
SHAPE = "layers"
NOTHING = """
name: nothing
parameters:
  text: {type: string, default: a}
steps:
  step: {kind: command, command: "echo ${{ parameters.text }} > ${{ outputs.out }}", outputs: [out]}
"""


def test_repro(room: Path, dvc: Dvc, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    for name in ("MLPIPE_STORE", "MLPIPE_WORKSPACE", "AIRFLOW_HOME"):
        monkeypatch.delenv(name, raising=False)
    ours = room / "ours" / "layers.yaml"
    ours.parent.mkdir()
    ours.write_text(our_definition())
    one = room / "one" / "nothing.yaml"
    one.parent.mkdir()
    one.write_text(NOTHING)
    (dvc.repository / "dvc.yaml").write_text(their_definition())
    texts = map(str, itertools.count())

    def theirs_all() -> float:
        (dvc.repository / "params.yaml").write_text(f"text: text {next(texts)}\n")
        return dvc.run("repro")

    dvc.start_anew()
    mlpipe(one)  # makes the private Airflow, once
    all_run = side_by_side(
        {"ours": lambda: mlpipe(ours, next(texts)), "dvc": theirs_all, "start": lambda: mlpipe(one, next(texts))}
    )
    last = next(texts)
    mlpipe(ours, last)
    nothing = side_by_side({"ours": lambda: mlpipe(ours, last), "dvc": lambda: dvc.run("repro")})
    show(
        Row(
            f"mlpipe run, {STEPS} steps, nothing to do",
            nothing["ours"],
            "dvc repro",
            nothing["dvc"],
            Target("faster", 3),
        ),
        Row(f"mlpipe run, {STEPS} steps that all run", all_run["ours"], "dvc repro", all_run["dvc"]),
        Row("  of which Airflow's start: one step that runs", all_run["start"]),
    )


def mlpipe(definition: Path, text: str = "a") -> float:
    """Run a pipeline; return the seconds it took."""
    program = Path(sys.executable).with_name("mlpipe")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run(
        [program, "run", definition, "-p", f"text=text {text}"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds


def our_definition() -> str:
    lines = ["name: layers", "parameters:", "  text: {type: string, default: a}", "steps:"]
    for number in range(STEPS):
        inputs = [f'from_{up}: "${{{{ steps.{step_name(up)}.outputs.out }}}}"' for up in upstream_of(SHAPE, number)]
        lines += [
            f"  {step_name(number)}:",
            "    kind: command",
            f"    command: echo ${{{{ parameters.text }}}} {number} > ${{{{ outputs.out }}}}",
            f"    inputs: {{{', '.join(inputs)}}}",
            "    outputs: [out]",
        ]
    return "\n".join(lines) + "\n"


def their_definition() -> str:
    lines = ["stages:"]
    for number in range(STEPS):
        before = [f"{step_name(up)}.txt" for up in upstream_of(SHAPE, number)]
        lines += [
            f"  {step_name(number)}:",
            f"    cmd: echo ${{text}} {number} > {step_name(number)}.txt",
            f"    deps: [{', '.join(before)}]",
            "    params: [text]",
            f"    outs: [{step_name(number)}.txt]",
        ]
    return "\n".join(lines) + "\n"
