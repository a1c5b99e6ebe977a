"""The Airflow plugin."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from airflow_mlpipe.operators.links import MadeByLink, WaitsForLink


class MlpipePlugin(AirflowPlugin):
    """Registers the links of step operators, so that the UI shows them."""

    name = "mlpipe"
    operator_extra_links: ClassVar[list[Any]] = [MadeByLink(), WaitsForLink()]

    @classmethod
    def on_load(cls, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401 -- as Airflow calls it
        """Import what DAG files and tasks need while a component starts, once, and not in each process it forks.

        That is a third of a second a task, most of what deciding reuse would cost.
        """
        import_module("airflow_mlpipe.dag_factory")
