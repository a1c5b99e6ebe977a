"""Links on a task instance's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol


class MadeByLink(BaseOperatorLink):
    """Leads from a reused step to the task that made its outputs."""

    name = "Made by"

    def get_link(self, operator: Any, *, ti_key: RuntimeTaskInstanceProtocol) -> str:
        """Return the page of the task instance that ran, or nothing where this one did."""
        made_by = getattr(operator, "made_by", None)
        if not made_by or made_by.get("run") == ti_key.run_id:
            return ""
        return f"/dags/{quote(made_by['pipeline'])}/runs/{quote(made_by['run'])}/tasks/{quote(made_by['step'])}"
