from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_mlpipe.operators.links import MadeByLink


def link(made_by, dag_id="churn", run_id="r2"):
    key = SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id="train", map_index=-1)
    return MadeByLink().get_link(SimpleNamespace(made_by=made_by), ti_key=key)


def made_by(pipeline="churn", run="r1", step="train"):
    return {"pipeline": pipeline, "run": run, "step": step}


@pytest.fixture
def base(monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team/")


@pytest.mark.usefixtures("base")
def test_it_leads_to_the_task_that_made_what_was_reused():
    assert link(made_by()) == "https://airflow.example/team/dags/churn/runs/r1/tasks/train"


@pytest.mark.usefixtures("base")
def test_it_leads_to_the_very_map_index():
    assert link(made_by(step="train[7]")).endswith("/tasks/train/mapped/7")


@pytest.mark.usefixtures("base")
def test_it_leads_to_other_dags_even_from_a_run_of_the_same_name():
    assert link(made_by("other", run="r2")).endswith("/dags/other/runs/r2/tasks/train")


@pytest.mark.usefixtures("base")
def test_a_run_id_with_signs_is_one_segment_of_the_address():
    assert "/runs/scheduled__2025-03-01T00%3A00%3A00%2B00%3A00/" in link(
        made_by(run="scheduled__2025-03-01T00:00:00+00:00")
    )
    assert "/runs/a%2Fb%3Fc/" in link(made_by(run="a/b?c"))


def test_without_an_address_of_its_own_airflow_gets_a_path():
    assert link(made_by()) == "/dags/churn/runs/r1/tasks/train"


@pytest.mark.parametrize("nothing", [{}, None, made_by(run="r2")])
def test_where_this_run_made_it_there_is_no_link(nothing):
    assert link(nothing) == ""


def test_a_task_of_another_kind_has_no_link():
    key = SimpleNamespace(dag_id="d", run_id="r")
    assert MadeByLink().get_link(object(), ti_key=key) == ""
