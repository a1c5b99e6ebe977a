"""On a real scheduler: a pipeline with nothing to do, and one local step, against plain Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.up import LocalAirflow
from tests.benchmarks.shapes import SHAPES, step_name, upstream_of
from tests.benchmarks.table import Row, Target, side_by_side
from tests.integration.harness import FAST, Harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.benchmark

STEPS = 100

PIPELINES = """
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "bench")  # one DAG for each definition
"""

SKIPPING = """
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import DownstreamTasksSkipped


class Skip(BaseOperator):
    def execute(self, context):
        raise DownstreamTasksSkipped(tasks=[task for task in self.dag.task_ids if task != self.task_id])


with DAG("skip_{shape}", schedule=None) as dag:
    first = Skip(task_id="plan")
    tasks = {{}}
    for number, upstream in {edges}:
        tasks[number] = BaseOperator(task_id=f"step_{{number:04}}", trigger_rule="none_failed")
        tasks[number].set_upstream([tasks[other] for other in upstream] or first)
"""

BASH = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.bash import BashOperator
from airflow_mlpipe.operators import CommandOperator

with DAG("plain_step", schedule=None):
    BashOperator(task_id="step", bash_command="python3 -c 'print(1)'")

with DAG("our_step", schedule=None):
    CommandOperator(task_id="step", command="python3 -c 'print(1)'", allow_reuse=False)
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    with LocalAirflow(folder / "home", dags, settings=FAST) as local:
        yield Harness(local)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_to_do(shape: str, airflow: Harness, show: Callable[..., None]) -> None:
    airflow.write(f"bench/{shape}.yaml", definition(shape))
    edges = [(number, upstream_of(shape, number)) for number in range(STEPS - 1)]
    airflow.write_dag(f"skip_{shape}", SKIPPING.format(shape=shape, edges=edges))
    airflow.write_dag("pipelines", PIPELINES) if shape == SHAPES[0] else airflow.reparse("pipelines")
    airflow.run(f"bench_{shape}", timeout=600)  # everything runs, once
    times = side_by_side({"ours": run(airflow, f"bench_{shape}"), "skip": run(airflow, f"skip_{shape}")})
    row = Row(f"{STEPS} steps, {shape}, nothing to do", times["ours"], "one task skips 99", times["skip"], within(1.3))
    show(row)


def test_one_step(airflow: Harness, show: Callable[..., None]) -> None:
    airflow.write_dag("one_step", BASH)
    times = side_by_side({"ours": run(airflow, "our_step"), "bash": run(airflow, "plain_step")})
    show(Row("one local step that runs", times["ours"], "BashOperator", times["bash"], within(1.15)))


def run(airflow: Harness, dag_id: str) -> Callable[[], float]:
    """Return a measure of one run, by Airflow's own clock."""

    def measure() -> float:
        run_id, state = airflow.run(dag_id, timeout=300)
        assert state == "success"
        return airflow.seconds(dag_id, run_id)

    return measure


def within(bound: float) -> Target:
    return Target("within", bound)


def definition(shape: str) -> str:
    """Return a pipeline of commands that cost next to nothing."""
    lines = [f"name: bench_{shape}", "steps:"]
    for number in range(STEPS - 1):
        inputs = ", ".join(
            f'from_{up}: "${{{{ steps.{step_name(up)}.outputs.out }}}}"' for up in upstream_of(shape, number)
        )
        lines += [
            f"  {step_name(number)}:",
            "    kind: command",
            f"    command: echo {shape} {number} > ${{{{ outputs.out }}}}",
            f"    inputs: {{{inputs}}}",
            "    outputs: {out: {}}",
        ]
    return "\n".join(lines) + "\n"
