"""Links on a task instance's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk.types import RuntimeTaskInstanceProtocol


class MadeByLink(BaseOperatorLink):
    """Leads from a reused step to the task that made its outputs."""

    name = "Made by"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol) -> str:
        """Return the page of the task instance that ran, or nothing where this one did."""
        made_by = getattr(operator, "made_by", None)
        if not made_by or (made_by["pipeline"], made_by["run"]) == (ti_key.dag_id, ti_key.run_id):
            return ""
        return page_of(made_by)


class WaitsForLink(BaseOperatorLink):
    """Leads from a step that waits to the task that computes the same at this moment."""

    name = "Waits for"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol) -> str:  # noqa: ARG002 -- as Airflow calls it
        """Return the page of the task instance that is waited for, or nothing where none is."""
        waits_for = getattr(operator, "waits_for", None)
        return page_of(waits_for) if waits_for else ""


def page_of(task: Mapping[str, str]) -> str:
    """Return the page of the task instance of a ``step`` in a ``run`` of a ``pipeline``."""
    names = (quote(task[part], safe="") for part in ("pipeline", "run"))
    step, _, map_index = task["step"].removesuffix("]").partition("[")  # no name of a step holds a bracket
    mapped = f"/mapped/{map_index}" if map_index else ""
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return "{}/dags/{}/runs/{}/tasks/{}{}".format(base, *names, quote(step, safe=""), mapped)
