from __future__ import annotations

import pytest

from airflow_mlpipe.cli.past import last_run, named_run
from airflow_mlpipe.exceptions import PlanError
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests.cli.helpers import note, planned


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def keep(store, project, run):
    plan = planned(project, run)
    runs.write_plan(store, "small", run, plan.to_json())


def test_the_last_run_is_the_one_whose_id_has_the_latest_time(store, project):
    for run in (
        "zzz",
        "manual__2025-01-02T00:00:00+00:00",
        "scheduled__2025-01-03T00:00:00+00:00",
        "manual__2025-01-03T01:00:00+02:00",
        "manual__2025-01-01T00:00:00.123456+00:00",
    ):
        keep(store, project, run)
    assert last_run(store, "small").run_id == "scheduled__2025-01-03T00:00:00+00:00"


def test_a_run_without_a_logical_date_has_its_time_too(store, project):
    keep(store, project, "manual__2025-01-02T00:00:00+00:00")
    keep(store, project, "manual__2025-01-03T00:00:00+00:00_Ab3dEf9h")
    assert last_run(store, "small").run_id.endswith("Ab3dEf9h")


def test_a_run_that_was_never_planned_is_passed_over(store, project):
    keep(store, project, "manual__2025-01-01T00:00:00+00:00")
    runs.write_note(store, "small", "manual__2025-01-02T00:00:00+00:00", "first", note())
    assert last_run(store, "small").run_id == "manual__2025-01-01T00:00:00+00:00"


def test_what_has_never_run_has_no_last_run(store):
    assert last_run(store, "small") is None


def test_a_run_is_found_by_its_id_with_what_its_steps_left(store, project):
    keep(store, project, "nightly")
    runs.write_note(store, "small", "nightly", "first", note())
    assert [step.outcome for step in named_run(store, "small", "nightly").steps] == ["ran", "not_run"]


def test_an_unknown_run_is_refused_with_the_nearest(store, project):
    with pytest.raises(PlanError, match="small has not run yet"):
        named_run(store, "small", "nightly")
    keep(store, project, "nightly")
    with pytest.raises(PlanError, match="Did you mean nightly"):
        named_run(store, "small", "nightli")
