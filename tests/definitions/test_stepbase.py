from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, EstimatorStep, MpiStep, PythonScriptStep


@pytest.mark.parametrize(
    ("step", "script"),
    [
        (PythonScriptStep(script_name="a.py"), "a.py"),
        (EstimatorStep(entry_script="b.py"), "b.py"),
        (MpiStep(script_name="c.py"), "c.py"),
        (MpiStep(name="d", command="true"), None),
        (CommandStep(name="e", command="python e.py"), None),
        (DataTransferStep(name="f", source="s3://a", destination="s3://b"), None),
    ],
)
def test_each_kind_says_which_python_script_it_runs(step, script):
    assert step.script == script
