"""1,000 sensors that wait in one triggerer: what they cost it and the store, against Airflow's own FileSensor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlpipe.airflow_home import make_home, process_environment
from tests.benchmarks.table import Row, Times

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.benchmark

MINUTES = 3
ROOT = Path(__file__).resolve().parents[2]


def test_1000_waiting_sensors(room: Path, show: Callable[..., None]) -> None:
    other = measured(room / "files", "files")
    for pipelines in (1, 50):
        of = "one pipeline" if pipelines == 1 else f"{pipelines} pipelines"
        told = measured(room / str(pipelines), "ours", pipelines)
        minutes, (last,) = told[:-1], told[-1:]
        print(f"\n1,000 sensors, {of}, a minute: {counts(minutes)}", flush=True)
        cpu = Row(
            f"1,000 sensors, {of}: CPU a minute", times(minutes, "cpu"), "1,000 FileSensors", times(other[:-1], "cpu")
        )
        late = Row(
            "  event loop late by at most", times(minutes, "late"), "1,000 FileSensors", times(other[:-1], "late")
        )
        noticed = Row("  from the journal to the last of them", Times((last["noticed"],)))
        show(cpu, late, noticed)
        assert max(minute["listings"] for minute in minutes) <= 4 * pipelines


def measured(folder: Path, kind: str, pipelines: int = 1) -> list[dict[str, float]]:
    """Return what a trigger runner tells, in an Airflow home of its own."""
    folder.mkdir()
    variables = make_home(folder / "home", folder)
    environment: dict[str, Any] = {**os.environ, **process_environment(variables), **variables}
    command = [sys.executable, "-m", "tests.benchmarks.runner", kind, str(folder), str(pipelines), str(MINUTES)]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def counts(minutes: list[dict[str, float]]) -> str:
    return "; ".join(f"{minute['listings']:.0f} listings, {minute['reads']:.0f} files read" for minute in minutes)


def times(minutes: list[dict[str, float]], name: str) -> Times:
    return Times(tuple(minute[name] for minute in minutes))
