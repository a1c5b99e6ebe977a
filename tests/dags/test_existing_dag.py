from __future__ import annotations

from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store

OURS = ["best", "totals", "transfer"]


def run(examples, *options):
    """Run the DAG and return the outcome of each of our steps in the run."""
    store = Store.open(str(examples.home / "mlpipe"))
    before = set(runs.runs(store, "existing_dag"))
    examples.python("-m", "airflow", "dags", "test", "existing_dag", *options)
    (run_id,) = set(runs.runs(store, "existing_dag")) - before
    return {step: note["outcome"] for step, note in runs.read_notes(store, "existing_dag", run_id).items()}


def test_our_tasks_are_reused_and_the_ordinary_ones_run_as_ever(examples):
    assert run(examples) == dict.fromkeys(OURS, "ran")
    assert run(examples) == dict.fromkeys(OURS, "reused")
    assert run(examples, "--conf", '{"best": 5}') == {"transfer": "reused", "totals": "reused", "best": "ran"}
