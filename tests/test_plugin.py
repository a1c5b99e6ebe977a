from __future__ import annotations

import sys
from importlib.metadata import entry_points

from airflow.plugins_manager import AirflowPlugin

from airflow_mlpipe.operators.links import MadeByLink
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.plugin import MlpipePlugin


def test_airflow_finds_it_by_its_entry_point():
    (point,) = entry_points(group="airflow.plugins", name="mlpipe")
    assert point.load() is MlpipePlugin


def test_airflow_takes_it_for_a_plugin():
    assert issubclass(MlpipePlugin, AirflowPlugin)
    MlpipePlugin.validate()
    assert MlpipePlugin.name == "mlpipe"


def test_it_registers_every_link_that_a_step_has_so_that_the_ui_shows_it():
    registered = {type(link) for link in MlpipePlugin.operator_extra_links}
    assert registered == {type(link) for link in StepOperator.operator_extra_links}
    assert MadeByLink in registered


def test_what_dag_files_and_tasks_need_is_imported_once_a_component_starts(monkeypatch):
    monkeypatch.delitem(sys.modules, "airflow_mlpipe.dag_factory", raising=False)
    MlpipePlugin.on_load()
    assert "airflow_mlpipe.dag_factory" in sys.modules


def test_airflow_may_load_it_twice_in_a_process_and_with_whatever_it_gives():
    MlpipePlugin.on_load()
    before = sys.modules["airflow_mlpipe.dag_factory"]
    MlpipePlugin.on_load("anything", more=1)
    assert sys.modules["airflow_mlpipe.dag_factory"] is before
