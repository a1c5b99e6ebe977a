from __future__ import annotations

import sys

import pytest

from airflow_mlpipe.definitions import CommandStep, Pipeline
from airflow_mlpipe.definitions.callbacks import callback_faults


@pytest.fixture
def around(tmp_path, monkeypatch):
    """A DAG folder with callbacks, in it a folder with definitions, and a package that is installed."""
    (tmp_path / "dags" / "pipelines").mkdir(parents=True)
    (tmp_path / "dags" / "callbacks.py").write_text(
        "raise SystemExit\ndef tell(context): ...\nasync def ring(c): ...\n"
    )
    (tmp_path / "dags" / "pipelines" / "beside.py").write_text("from callbacks import tell as told\nother = told\n")
    (tmp_path / "site" / "company").mkdir(parents=True)
    (tmp_path / "site" / "company" / "__init__.py").write_text("raise SystemExit\n")
    (tmp_path / "site" / "company" / "alerts.py").write_text("if True:\n    def page(context): ...\n")
    (tmp_path / "site" / "open.py").write_text("from anything import *\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    return tmp_path / "dags" / "pipelines"


def faults(folder, of_pipeline=None, **of_step):
    pipeline = Pipeline(name="p", steps=[CommandStep(name="a", command="true", **of_step)], on_failure=of_pipeline)
    pipeline.folder = folder
    return [str(fault.problem()) for fault in callback_faults(pipeline)]


@pytest.mark.parametrize(
    "dotted",
    [
        "callbacks.tell",
        "callbacks.ring",
        "beside.told",
        "beside.other",
        "company.alerts.page",
        "open.what",
        "time.sleep",
    ],
)
def test_a_callback_that_can_be_found_is_right_and_is_not_imported(around, dotted):
    before = set(sys.modules)
    assert faults(around, dotted, on_retry=dotted) == []
    assert not {"callbacks", "company", "beside"} & (set(sys.modules) - before)


@pytest.mark.parametrize("dotted", ["nomod.fn", "callbacks.deeper.fn", "company.no.fn"])
def test_a_module_that_is_not_there_is_named(around, dotted):
    (said,) = faults(around, dotted)
    module = dotted.rpartition(".")[0]
    assert said.startswith(
        f"on_failure: names a module {module} that cannot be found (given: {dotted}). Install it here"
    )


def test_a_function_that_is_not_there_is_named_with_the_nearest(around):
    assert faults(around, on_success="callbacks.tel") == [
        "steps.a.on_success: names a function that callbacks does not have (given: callbacks.tel). Did you mean tell?"
    ]
