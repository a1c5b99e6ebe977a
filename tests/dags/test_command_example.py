from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.dags.conftest import Examples, outcomes, run_pipeline

STEPS = ["measure", "summary", "histogram.count", "histogram.draw", "report"]


@pytest.fixture(scope="module")
def definition(tmp_path_factory):
    return Examples(tmp_path_factory.mktemp("commands")).dags / "pipelines" / "command_example.yaml"


@pytest.fixture(scope="module")
def first(definition):
    return run_pipeline(definition)


def text(report, step, output):
    uri = report["steps"][step]["outputs"][output]["uri"]
    return Path(unquote(urlsplit(uri).path)).read_text()


def test_every_step_runs_the_first_time(first):
    assert outcomes(first) == dict.fromkeys(STEPS, "ran")


def test_the_report_holds_what_the_modules_found(first):
    report = text(first, "report", "report")
    assert "degrees celsius" in report
    assert report.count("#") > 100


def test_a_second_run_reuses_every_step(definition, first):
    assert first["state"] == "success"
    assert outcomes(run_pipeline(definition)) == dict.fromkeys(STEPS, "reused")


def test_another_unit_runs_the_module_that_uses_it_and_what_follows(definition, first):
    assert first["state"] == "success"
    report = run_pipeline(definition, "-p", "unit=fahrenheit")
    assert outcomes(report) == {**dict.fromkeys(STEPS, "reused"), "summary": "ran", "report": "ran"}
    assert "degrees fahrenheit" in text(report, "report", "report")
