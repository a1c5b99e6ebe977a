from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_mlpipe.operators.run_context import RunContext, run_moments, utc_text

NOON = datetime(2025, 3, 1, 12, tzinfo=timezone.utc)


def context(map_index=-1, **moments):
    ti = SimpleNamespace(dag_id="churn", run_id="r 1", task_id="train", map_index=map_index, try_number=2)
    return {"ti": ti, "dag_run": SimpleNamespace(run_after=NOON), **moments}


def test_it_names_run_and_step_as_airflow_does():
    run = RunContext.of(context())
    assert (run.pipeline, run.run, run.step) == ("churn", "r 1", "train")


@pytest.mark.parametrize("map_index", [None, -1])
def test_a_task_that_is_not_mapped_is_just_its_step(map_index):
    assert RunContext.of(context(map_index)).step == "train"


def test_each_mapped_task_instance_is_a_step_of_its_own():
    assert [RunContext.of(context(index)).step for index in (0, 12)] == ["train[0]", "train[12]"]


def test_a_step_of_a_pipeline_has_its_own_name_whatever_its_task_is_called():
    assert RunContext.of(context(), "fit").step == "fit"
    assert RunContext.of(context(3), "fit").step == "fit[3]"


def test_the_owner_of_claims_tells_tries_of_one_task_instance_from_other_task_instances():
    first, mapped = RunContext.of(context()).owner(), RunContext.of(context(1)).owner()
    assert (first.pipeline, first.run, first.step, first.try_number) == ("churn", "r 1", "train", 2)
    assert first.task_instance != mapped.task_instance


def test_every_run_has_run_after_and_no_moment_that_airflow_has_not():
    assert run_moments(context()) == {"run_after": "2025-03-01T12:00:00+00:00"}
    assert run_moments(context(logical_date=None)) == {"run_after": "2025-03-01T12:00:00+00:00"}


def test_all_moments_of_a_scheduled_run_are_there():
    given = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end"), NOON)
    assert run_moments(context(**given)) == dict.fromkeys([*given, "run_after"], "2025-03-01T12:00:00+00:00")


def test_one_moment_has_one_text_in_whatever_zone_it_is_given():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert utc_text(elsewhere) == utc_text(NOON) == "2025-03-01T12:00:00+00:00"


def test_values_are_the_parameters_and_the_moments():
    values = RunContext.of(context()).values({"c": 1.0})
    assert (values.parameters, values.run) == ({"c": 1.0}, {"run_after": "2025-03-01T12:00:00+00:00"})
