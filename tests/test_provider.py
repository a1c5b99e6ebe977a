from __future__ import annotations

import json
from importlib.metadata import distribution, entry_points
from importlib.resources import files

import jsonschema
import pytest
from airflow.configuration import conf

from airflow_mlpipe import __version__
from airflow_mlpipe.provider import get_provider_info


def test_airflow_finds_it_by_its_entry_point():
    points = entry_points(group="apache_airflow_provider")
    assert [point.load() for point in points if point.value.startswith("airflow_mlpipe.")] == [get_provider_info]


def test_it_names_the_distribution_that_holds_it_since_airflow_compares_them():
    info = get_provider_info()
    assert info["package-name"] == distribution("airflow-mlpipe").metadata["Name"]
    assert info["versions"] == [__version__]


def test_airflow_accepts_it():
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize("option", get_provider_info()["config"]["mlpipe"]["options"])
def test_each_setting_says_what_it_is_and_airflow_reads_it(option, monkeypatch):
    described = get_provider_info()["config"]["mlpipe"]["options"][option]
    assert described["description"]
    assert described["version_added"]
    monkeypatch.setenv(f"AIRFLOW__MLPIPE__{option.upper()}", "chosen")
    assert conf.get("mlpipe", option) == "chosen"


def test_the_workspace_is_not_set_unless_somebody_sets_it():
    assert get_provider_info()["config"]["mlpipe"]["options"]["workspace"]["default"] is None
    assert conf.get("mlpipe", "workspace", fallback=None) is None
