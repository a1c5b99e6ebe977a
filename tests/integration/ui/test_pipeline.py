"""The analyst: opens a pipeline, changes a parameter in the trigger form, sees what was reused and what ran, and why."""

from __future__ import annotations

import pytest

from tests.integration.scheduler.project import Project
from tests.integration.ui.pages import AirflowPages

pytestmark = [pytest.mark.scheduler, pytest.mark.ui, pytest.mark.timeout(300)]


def test_an_analyst_triggers_with_a_changed_value_and_sees_what_ran_and_why(airflow, browser):
    project = Project.create(airflow, "analyst", head="description: Trains a model of customers.")
    project.run()
    pages = AirflowPages(browser, airflow.airflow)
    pages.log_in()
    pages.open_dag("analyst")
    browser.screenshot("pipeline-1-dag")

    pages.open_trigger_form()
    browser.until_text("How much")
    browser.until_text("Regenerate outputs")
    pages.set_parameters({"c": "0.25"})
    browser.screenshot("pipeline-2-form")
    run_id = pages.trigger()
    pages.until_run_shows("success")
    browser.screenshot("pipeline-3-run")
    assert airflow.task_states("analyst", run_id) == {
        "plan": "success",
        "prepare": "skipped",
        "train": "success",
        "report": "success",
    }

    pages.open_task("analyst", run_id, "plan", "rendered_templates")
    browser.until_text("parameter c: 1.0 -> 0.25")
    browser.until_text("reused: nothing it depends on has changed since run")
    browser.screenshot("pipeline-4-plan")
    pages.open_task("analyst", run_id, "train", "rendered_templates")
    browser.until_text("fingerprint")
    browser.screenshot("pipeline-5-train")
    pages.open_task("analyst", run_id, "train", "xcom")
    browser.until_text("sha256:")
    pages.open_task("analyst", run_id, "train")
    browser.until_text("ran: parameter c: 1.0 -> 0.25", 60)
    browser.screenshot("pipeline-6-log")
