"""Links on a task instance's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol


class MadeByLink(BaseOperatorLink):
    """Leads from a reused step to the task that made its outputs."""

    name = "Made by"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol) -> str:
        """Return the page of the task instance that ran, or nothing where this one did."""
        made_by = getattr(operator, "made_by", None)
        if not made_by or (made_by["pipeline"], made_by["run"]) == (ti_key.dag_id, ti_key.run_id):
            return ""
        names = (quote(made_by[part], safe="") for part in ("pipeline", "run"))
        step, _, map_index = made_by["step"].removesuffix("]").partition("[")  # no name of a step holds a bracket
        mapped = f"/mapped/{map_index}" if map_index else ""
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        return "{}/dags/{}/runs/{}/tasks/{}{}".format(base, *names, quote(step, safe=""), mapped)
