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

PODS = """
compute: {k8s: {kind: kubernetes, environment: python, namespace: steps, gpus: 1}}
environments: {python: {image: "registry.example.org/python@sha256:%s"}}
defaults: {compute: k8s}
""" % ("0" * 64)
"""A workspace in which every step runs in a pod."""

PARSE = f"""
import sys, time
import airflow.sdk
import airflow.providers.standard.operators.bash, airflow_mlpipe.dag_factory
from airflow.dag_processing.dagbag import DagBag
if "dag-factory" in sys.argv[1]:
    import dagfactory
start = time.perf_counter()
bag = DagBag(sys.argv[1])
seconds = time.perf_counter() - start
assert not bag.import_errors, bag.import_errors
assert [len(dag.tasks) >= {STEPS} for dag in bag.dags.values()] == [True] * int(sys.argv[2]), sorted(bag.dags)
print(seconds)
"""


def test_parse(room: Path, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process of its own that has imported what it needs, as the DAG processor has when it forks."""
    monkeypatch.setenv("AIRFLOW_HOME", str(room / "home"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    ways = {"ours": write_ours, "by hand": write_by_hand, "dag-factory": write_for_dag_factory}
    for way, write in ways.items():
        write(room / way)
        told(PARSE, room / way, str(DAGS))  # once before, as Python keeps what it has compiled
    times = side_by_side({way: lambda way=way: told(PARSE, room / way, str(DAGS)) for way in ways})
    what = f"parse of {DAGS} pipelines x {STEPS} steps"
    show(
        Row(what, times["ours"], "BashOperator, by hand", times["by hand"], Target("within", 1.3)),
        Row(what, times["ours"], "dag-factory", times["dag-factory"]),
    )


def test_parse_of_steps_in_pods(room: Path, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of them, against a hundred that run on the worker: nothing of a cluster is loaded to parse."""
    monkeypatch.setenv("AIRFLOW_HOME", str(room / "home"))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    count = 100 // STEPS
    for way, workspace in {"pods": PODS, "local": ""}.items():
        write_ours(room / way, count, workspace)
        told(PARSE, room / way, str(count))
    times = side_by_side({way: lambda way=way: told(PARSE, room / way, str(count)) for way in ("pods", "local")})
    what = f"parse of {count} pipelines x {STEPS} steps in pods"
    show(Row(what, times["pods"], "the same steps, local", times["local"], Target("within", 1.1)))
