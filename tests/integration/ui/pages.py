"""What an analyst does in the Airflow UI: log in, open a DAG, fill the trigger form, watch the run."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.up import LocalAirflow
    from tests.integration.ui.browser import Browser

LOADED = 60
"""Seconds for a page of the UI; on a busy machine the first takes ten."""


class AirflowPages:
    """The Airflow UI in a browser."""

    def __init__(self, browser: Browser, airflow: LocalAirflow) -> None:
        self.browser = browser
        self.airflow = airflow

    def log_in(self) -> None:
        """Log in with the password of the home."""
        user, secret = self.airflow.login
        self.browser.open(self.airflow.address)
        self.browser.fill("input[name=username]", user, LOADED)
        self.browser.fill("input[name=password]", secret)
        self.browser.click("button", "Sign in")
        self.browser.until("!location.pathname.startsWith('/auth/')", LOADED)

    def open_dag(self, dag_id: str) -> None:
        """Open the page of a DAG."""
        self.browser.open(f"{self.airflow.address}/dags/{dag_id}")
        self.browser.until_text("Latest Dag Version", LOADED)

    def open_trigger_form(self) -> None:
        """Open the trigger form of the DAG whose page is open."""
        self.browser.click("button", "Trigger Dag", LOADED)
        self.browser.until("document.querySelector('[role=dialog] input[type=radio]')", LOADED)

    def set_parameters(self, values: Mapping[str, str]) -> None:
        """Type values into fields of the trigger form."""
        for name, value in values.items():
            self.browser.fill(f"[role=dialog] [name=element_{name}]", value)

    def trigger(self) -> str:
        """Press Trigger in the form and return the id of the run, whose page the UI opens."""
        self.browser.click("[role=dialog] button", "Trigger")
        self.browser.until("location.pathname.includes('/runs/')", LOADED)
        return unquote(urlsplit(self.browser.address).path.split("/runs/")[1].split("/")[0])

    def until_run_shows(self, state: str, seconds: float = 90) -> None:
        """Wait until the page of a run shows its state and that of each of its tasks, none being at work."""
        self.browser.until_text(state.capitalize(), seconds)
        self.browser.until("!/\\b(Running|Queued|Scheduled)\\b/.test(document.body.innerText)", seconds)

    def open_task(self, dag_id: str, run_id: str, task_id: str, tab: str = "") -> None:
        """Open the page of a task instance, on a tab such as ``rendered_templates`` or ``xcom``."""
        path = f"/dags/{dag_id}/runs/{run_id}/tasks/{task_id}"
        self.browser.open(self.airflow.address + path + (f"/{tab}" if tab else ""))
        self.browser.until_text(task_id, LOADED)
