"""The Airflow plugin."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from airflow_mlpipe.operators.links import MadeByLink


class MlpipePlugin(AirflowPlugin):
    """Registers the links of step operators, so that the UI shows them."""

    name = "mlpipe"
    operator_extra_links: ClassVar[list[Any]] = [MadeByLink()]
