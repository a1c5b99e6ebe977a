"""On a real scheduler: a sweep against plain mapped tasks, and with nothing to do; many files in mini-batches, twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.up import LocalAirflow
from tests.benchmarks.table import Row, Target, Times, side_by_side
from tests.integration.harness import FAST, Harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

TRIALS = 20

SWEEP = f"""
name: bench_sweep
steps:
  tune:
    kind: command
    command: |
      echo '{{"name": "score", "value": '${{{{ parameters.c }}}}'}}' > ../metrics.jsonl
      echo ${{{{ parameters.c }}}} > ${{{{ outputs.model }}}}
    outputs: [model]
    sweep:
      parameters: {{c: {list(range(TRIALS))}}}
      objective: {{metric: score, goal: maximize}}
"""

DAGS = f"""
from airflow.sdk import DAG, task
from airflow.providers.standard.operators.bash import BashOperator
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "bench_sweep.yaml")

with DAG("bench_mapped", schedule=None):

    @task
    def listed():
        return [f"echo {{number}}" for number in range({TRIALS})]

    @task
    def best(values):
        return len(list(values))

    best(BashOperator.partial(task_id="trial").expand(bash_command=listed()).output)
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    with LocalAirflow(folder / "home", dags, settings=FAST) as local:
        harness = Harness(local)
        harness.write("bench_sweep.yaml", SWEEP)
        harness.write_dag("sweeps", DAGS, timeout=120)
        yield harness


def test_a_sweep(airflow: Harness, show: Callable[..., None]) -> None:
    run(airflow, "bench_sweep")()  # everything runs, once
    anew = {"regenerate_outputs": ["tune"]}
    times = side_by_side({"ours": run(airflow, "bench_sweep", anew), "mapped": run(airflow, "bench_mapped")})
    name = f"sweep of {TRIALS} trials that run"
    show(Row(name, times["ours"], f"{TRIALS} mapped BashOperators", times["mapped"], Target("within", 1.3)))


def test_a_sweep_with_nothing_to_do(airflow: Harness, show: Callable[..., None]) -> None:
    run(airflow, "bench_sweep")()
    times = side_by_side({"ours": run(airflow, "bench_sweep"), "mapped": run(airflow, "bench_mapped")})
    name = f"sweep of {TRIALS} trials that are known"
    show(Row(name, times["ours"], f"{TRIALS} mapped BashOperators", times["mapped"], Target("within", 0.5)))


def run(airflow: Harness, dag_id: str, conf: dict[str, list[str]] | None = None) -> Callable[[], float]:
    """Return a measure of one run, by Airflow's own clock."""

    def measure() -> float:
        run_id, state = airflow.run(dag_id, conf, timeout=600)
        assert state == "success", airflow.task_states(dag_id, run_id)
        return airflow.seconds(dag_id, run_id)

    return measure


FILES = 1000
NEW = 3

BATCHES = """
name: bench_batches
steps:
  shrink:
    kind: command
    command: |
      mkdir -p ${{ outputs.thumbs }}
      for image in ${{ inputs.images }}/*; do tr a-z A-Z < $image > ${{ outputs.thumbs }}/${image##*/}; done
    inputs: {images: images}
    outputs: [thumbs]
    parallel: {over: "${{ inputs.images }}", mini_batch_size: 50}
"""


def test_mini_batches(airflow: Harness, show: Callable[..., None]) -> None:
    for number in range(FILES):
        airflow.write(f"images/{number:04}", f"image {number}\n")
    airflow.write("bench_batches.yaml", BATCHES)
    airflow.write_dag("batches", DAGS.replace("bench_sweep.yaml", "bench_batches.yaml").partition("with DAG")[0])
    first = run(airflow, "bench_batches")()
    again = Times((run(airflow, "bench_batches")(),))
    for number in range(NEW):
        airflow.write(f"images/new{number}", f"new image {number}\n")
    few = Times((run(airflow, "bench_batches")(),))
    name = f"{FILES} files in mini-batches of 50"
    show(
        Row(f"{name}, with {NEW} new", few, "the first run", Times((first,)), Target("within", 0.5)),
        Row(f"{name}, unchanged", again, "the first run", Times((first,)), Target("within", 0.2)),
    )
