from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    DataReference,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    load_pipeline,
)
from airflow_mlpipe.exceptions import MlpipeError, ParameterError, StepError
from airflow_mlpipe.experiment import Experiment, Output

SCRIPT = """\
import sys
print("this is", sys.argv[0])
if sys.argv[3] == "true":
    raise SystemExit("as asked for")
open(sys.argv[2], "w").write(open(sys.argv[1]).read().upper())
"""


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "MLPIPE_")) and name not in {"MLPIPE_CACHE", "MLPIPE_REQUIRE"}:
            monkeypatch.delenv(name)


@pytest.fixture
def pipeline(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "upper.py").write_text(SCRIPT)
    (tmp_path / "raw.txt").write_text("abc")
    return make(tmp_path)


def make(folder: Path, *more: PythonScriptStep, raw: str = "raw.txt") -> Pipeline:
    out = PipelineData(name="out")
    step = PythonScriptStep(
        script_name="upper.py",
        source_directory="src",
        arguments=[DataReference(name="raw", path=raw), out, "false"],
        inputs=[DataReference(name="raw", path=raw)],
        outputs=[out],
    )
    pipeline = Pipeline(name="letters", steps=[step, *more])
    pipeline.folder = folder
    return pipeline


def failing(pipeline: Pipeline) -> PythonScriptStep:
    out = PipelineData(name="out")
    fail = PipelineParameter(name="fail", default=False)
    data = pipeline.step("upper").output["out"]
    return PythonScriptStep(
        name="again",
        script_name="upper.py",
        source_directory="src",
        arguments=["${{ inputs.data }}", out, fail],
        inputs={"data": data},
        outputs=[out],
    )


def test_a_failed_step_raises_its_error_and_the_others_keep_their_outputs(pipeline, capsys):
    both = make(pipeline.folder, failing(pipeline))
    run = Experiment("first").submit(both, pipeline_parameters={"fail": True})
    assert run.get_status() == "Running"
    with pytest.raises(MlpipeError, match="not ended yet"):
        _ = run.steps
    with pytest.raises(StepError, match=r"(?s)again of letters failed.*as asked for"):
        run.wait_for_completion(show_output=True)
    assert "upper ran in" in capsys.readouterr().err
    assert run.get_status() == "Failed"
    assert run.wait_for_completion(raise_on_error=False) == "Failed"
    assert [step.outcome for step in run.steps] == ["ran", "failed"]
    assert run.find_step("upper").outputs["out"].path.read_text() == "ABC"

    alone = Experiment("second").submit(pipeline)  # the same work, so it is done already
    assert alone.wait_for_completion() == "Finished"
    assert alone.find_step("upper").outcome == "reused"
    assert alone.run_id.startswith("manual__")
    with pytest.raises(KeyError, match="Did you mean upper"):
        alone.find_step("uper")


def test_relative_paths_mean_the_folder_of_the_pipeline_and_only_private_files_are_left(
    pipeline, monkeypatch, tmp_path
):
    monkeypatch.chdir("/")
    with pytest.raises(MlpipeError, match=r"none\.txt"):
        Experiment("first").submit(make(pipeline.folder, raw="none.txt")).wait_for_completion()
    assert {path.name for path in tmp_path.iterdir()} == {".mlpipe", "raw.txt", "src"}
    (file,) = (tmp_path / ".mlpipe" / "experiments").glob("*.yaml")
    assert "experiment: first" in file.read_text()


def test_a_value_that_a_parameter_refuses_is_refused_at_once(pipeline):
    with pytest.raises(ParameterError, match="no parameter rate"):
        Experiment("first").submit(pipeline, pipeline_parameters={"rate": 1})
    assert not (pipeline.folder / ".mlpipe").exists()


def test_a_run_can_be_canceled(pipeline):
    run = Experiment("first").submit(pipeline)
    run.cancel()
    assert run.get_status() == "Canceled"
    assert run.wait_for_completion() == "Canceled"
    run.cancel()


def test_an_output_elsewhere_has_no_path_here():
    assert Output("file:///a/b", "d", 1, 1).path == Path("/a/b")
    with pytest.raises(ValueError, match="s3://bucket/x is not on this machine"):
        _ = Output("s3://bucket/x", "d", 1, 1).path


def test_what_is_submitted_is_the_same_definition(pipeline):
    named = pipeline.model_copy(update={"experiment": "first"})
    file = Experiment("first")._write(pipeline)
    (pipeline.folder / ".mlpipe" / "experiments" / "src").symlink_to(pipeline.folder / "src")
    assert load_pipeline(file) == named
