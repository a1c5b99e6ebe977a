"""The examples as `make up` shows them: found by a real Airflow, and run by its scheduler."""

from __future__ import annotations

import sys

import pytest

from airflow_mlpipe.up import LocalAirflow
from tests.dags.conftest import DAGS, Examples, command
from tests.integration.harness import FAST, Harness

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(900)]

OURS = {"transfer", "totals", "best"}
DIGITS = {"transfer", "clean", "features", "train", "evaluate", "register"}


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scheduler")
    dags = Examples(folder).dags
    landing = dags / "pipelines" / "data" / "landing" / "digits"
    command(sys.executable, DAGS / "demo" / "land.py", landing, 3, cwd=folder)
    settings = {**FAST, "core.dags_are_paused_at_creation": "True"}
    with LocalAirflow(folder / "up", dags, settings=settings) as local:
        yield Harness(local)


def scheduled(airflow, dag_id):
    """Switch a DAG on, and return the id of the run that its schedule starts at once."""
    runs = f"/dags/{dag_id}/dagRuns"
    airflow.airflow.patch(f"/dags/{dag_id}", {"is_paused": False})
    airflow.until(lambda: airflow.airflow.get(runs)["total_entries"], 120, f"{dag_id} was not started")
    return finished(airflow, dag_id, airflow.airflow.get(runs)["dag_runs"][0]["dag_run_id"])


def triggered(airflow, dag_id, **conf):
    return finished(airflow, dag_id, airflow.trigger(dag_id, conf))


def finished(airflow, dag_id, run_id):
    assert airflow.wait(dag_id, run_id, timeout=300) == "success", airflow.task_states(dag_id, run_id)
    return run_id


def test_airflow_finds_every_example(airflow):
    assert airflow.import_errors() == {}
    assert {dag["dag_id"] for dag in airflow.airflow.pages("/dags", "dags")} == {
        "digits",
        "cache_maintenance",
        "command_example",
        "existing_dag",
        "waiting_dag",
        "mini_batches",
        "mpi_clusters",
        "sweep_digits",
        "torch_digits",
        "getting_started",
        "getting_started_in_sequence",
        "with_data_dependency_steps",
        "with_commandstep",
        "with_commandstep_distributed",
        "parameter_tuning_with_hyperdrive",
        "how_to_use_modulestep",
    }


def test_the_existing_dag_hands_data_on_and_reuses_it(airflow):
    first, second = scheduled(airflow, "existing_dag"), triggered(airflow, "existing_dag")
    for task in OURS:
        assert "ran:" in airflow.log("existing_dag", first, task)
        assert "reused:" in airflow.log("existing_dag", second, task)
    assert airflow.xcom("existing_dag", first, "best", "best") == airflow.xcom("existing_dag", second, "best", "best")
    states = airflow.task_states("existing_dag", second)
    assert {states["praise"], states["warn"]} == {"success", "skipped"}
    assert states["tell"] == "success"


def test_the_waiting_dag_waits_for_digits_without_a_slot_and_takes_what_it_made(airflow):
    airflow.airflow.patch("/dags/waiting_dag", {"is_paused": False})
    waiting = airflow.trigger("waiting_dag")
    deferred = {"registered": "deferred", "scores": "deferred", "card": None, "tell": None}
    airflow.until(lambda: airflow.task_states("waiting_dag", waiting) == deferred, 120, "it does not wait")
    digits = scheduled(airflow, "digits")
    finished(airflow, "waiting_dag", waiting)
    assert airflow.xcom("waiting_dag", waiting, "registered", "confirmed-by")["run"] == digits


def test_digits_runs_on_its_schedule_and_then_only_what_changed(airflow):
    assert set(airflow.task_states("digits", scheduled(airflow, "digits")).values()) == {"success"}
    assert skipped(airflow, triggered(airflow, "digits")) == DIGITS
    assert skipped(airflow, triggered(airflow, "digits", c=0.5)) == {"transfer", "clean", "features"}


def skipped(airflow, run_id):
    return {task for task, state in airflow.task_states("digits", run_id).items() if state == "skipped"}
