from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.dags.conftest import Examples, outcomes, run_pipeline

STEPS = ["measure", "count", "total"]


@pytest.fixture(scope="module")
def definition(tmp_path_factory):
    return Examples(tmp_path_factory.mktemp("batches")).dags / "pipelines" / "mini_batches.yaml"


@pytest.fixture(scope="module")
def first(definition):
    return run_pipeline(definition)


def total(report):
    return Path(unquote(urlsplit(report["steps"]["total"]["outputs"]["total"]["uri"]).path)).read_text()


def test_every_day_is_counted(first):
    assert outcomes(first) == dict.fromkeys(STEPS, "ran")
    assert total(first).endswith("hours above freezing in 40 days\n")


def test_a_second_run_reuses_every_step(definition, first):
    assert first["state"] == "success"
    assert outcomes(run_pipeline(definition)) == dict.fromkeys(STEPS, "reused")


def test_three_more_days_cost_one_mini_batch(definition, first):
    assert first["state"] == "success"
    report = run_pipeline(definition, "-p", "days=43")
    assert total(report).endswith("hours above freezing in 43 days\n")
    notes = (definition.parent / ".mlpipe/store/runs/mini_batches").glob("*/notes/*")
    assert sum(path.name.startswith("count=5B") for path in notes) == 5  # four the first time, one now
