"""Parsing 100 DAGs of 20 tasks, as Airflow's DAG processor does: ours, written by hand, and by dag-factory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.parsed import DAGS, STEPS, write_by_hand, write_for_dag_factory, write_ours
from tests.benchmarks.table import Row, Target, side_by_side, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.benchmark

PARSE = f"""
import sys, time
import airflow.sdk
import airflow.providers.standard.operators.bash, airflow_mlpipe.dag_factory, dagfactory
from airflow.dag_processing.dagbag import DagBag
start = time.perf_counter()
bag = DagBag(sys.argv[1])
seconds = time.perf_counter() - start
assert not bag.import_errors, bag.import_errors
assert [len(dag.tasks) >= {STEPS} for dag in bag.dags.values()] == [True] * {DAGS}, sorted(bag.dags)
print(seconds)
"""


def test_parse(room: Path, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process of its own that has imported what it needs, as the DAG processor has when it forks."""
    monkeypatch.setenv("AIRFLOW_HOME", str(room / "home"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    ways = {"ours": write_ours, "by hand": write_by_hand, "dag-factory": write_for_dag_factory}
    for way, write in ways.items():
        write(room / way)
        told(PARSE, room / way)  # once before, as Python keeps what it has compiled
    times = side_by_side({way: lambda way=way: told(PARSE, room / way) for way in ways})
    what = f"parse of {DAGS} pipelines x {STEPS} steps"
    show(
        Row(what, times["ours"], "BashOperator, by hand", times["by hand"], Target("within", 1.3)),
        Row(what, times["ours"], "dag-factory", times["dag-factory"]),
    )
