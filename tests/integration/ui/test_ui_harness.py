from __future__ import annotations

import pytest

from tests.integration.ui.pages import AirflowPages

pytestmark = [pytest.mark.scheduler, pytest.mark.ui]

PLAIN = """
from airflow.sdk import DAG, BaseOperator, Param


class Train(BaseOperator):
    template_fields = ("rate",)

    def __init__(self, *, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate

    def execute(self, context):
        return context["params"]["learning_rate"]


with DAG("ui_plain", schedule=None, params={"learning_rate": Param(0.1, type="number", minimum=0)}):
    Train(task_id="train", rate="{{ params.learning_rate }}")
"""


@pytest.fixture
def pages(browser, airflow):
    pages = AirflowPages(browser, airflow.airflow)
    pages.log_in()
    return pages


def test_a_parameter_changed_in_the_trigger_form_reaches_the_task(airflow, pages):
    airflow.write_dag("ui_plain", PLAIN)
    pages.open_dag("ui_plain")
    pages.browser.screenshot("plain-1-dag")
    pages.open_trigger_form()
    pages.set_parameters({"learning_rate": "0.5"})
    pages.browser.screenshot("plain-2-form")
    run_id = pages.trigger()
    pages.until_run_shows("success")
    pages.browser.screenshot("plain-3-run")
    assert airflow.wait("ui_plain", run_id) == "success"
    assert airflow.xcom("ui_plain", run_id, "train") == 0.5
    pages.open_task("ui_plain", run_id, "train", "rendered_templates")
    pages.browser.until_text("0.5")
    pages.browser.screenshot("plain-4-task")


def test_the_page_of_a_dag_shows_a_new_visitor_the_login(browser, airflow):
    browser.open(f"{airflow.airflow.address}/dags/ui_plain")
    browser.until("document.querySelector('input[name=password]')", 60)
    assert "Sign into Airflow" in browser.text
