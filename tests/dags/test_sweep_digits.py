from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.dags.conftest import MLPIPE, Examples, command, outcomes, run_pipeline

STEPS = ["split", "tune", "score"]


@pytest.fixture(scope="module")
def definition(tmp_path_factory):
    return Examples(tmp_path_factory.mktemp("sweep")).dags / "pipelines" / "sweep_digits.yaml"


@pytest.fixture(scope="module")
def first(definition):
    return run_pipeline(definition)


def score(report):
    return Path(unquote(urlsplit(report["steps"]["score"]["outputs"]["score"]["uri"]).path)).read_text()


def test_the_best_of_nine_trials_is_scored(first):
    assert outcomes(first) == dict.fromkeys(STEPS, "ran")
    assert first["steps"]["tune"]["metrics"]["accuracy"] > 0.97
    assert score(first).endswith("with C=10.0, gamma=0.001\n")


def test_a_second_run_reuses_every_step(definition, first):
    assert first["state"] == "success"
    assert outcomes(run_pipeline(definition)) == dict.fromkeys(STEPS, "reused")


def test_another_value_runs_its_trials_alone(definition, first):
    assert first["state"] == "success"
    text = definition.read_text()
    definition.write_text(text.replace("c: [0.1, 1, 10]", "c: [0.1, 1, 10, 30]"))
    planned = command(MLPIPE, "plan", definition.name, cwd=definition.parent).stdout
    assert "9 of 12 trials are known" in " ".join(planned.split())
    report = run_pipeline(definition)
    definition.write_text(text)
    tune = report["steps"]["tune"]
    assert tune["outcome"] == "ran"
    said = "3 trials are new (c=30.0, gamma=0.0001; c=30.0, gamma=0.001; c=30.0, gamma=0.01)"
    assert [reason["what"] for reason in tune["reasons"]] == [said]
