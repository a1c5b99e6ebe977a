from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from airflow_mlpipe.runtime.metrics import read_metrics
from airflow_mlpipe.runtime.protocol import DistributionSpec, InputSpec, OutputSpec, to_json
from airflow_mlpipe.runtime.run import Run
from tests.runtime.steps import spec_of


@pytest.fixture
def run(tmp_path, monkeypatch):
    spec = spec_of(
        inputs={"data": InputSpec(), "far": InputSpec(uri="s3://b/x", mode="direct")},
        outputs={"model": OutputSpec()},
        parameters={"rate": 0.5, "deep": True, "tag": None},
    )
    (tmp_path / "spec.json").write_bytes(to_json(spec))
    monkeypatch.setenv("MLPIPE_STEP_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MLPIPE_INPUT_DATA", "/in/data")
    monkeypatch.setenv("MLPIPE_INPUT_FAR", "s3://b/x")
    monkeypatch.setenv("MLPIPE_OUTPUT_MODEL", "/out/model")
    return Run.get_context()


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.delenv("MLPIPE_STEP_DIRECTORY", raising=False)
    return Run.get_context()


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(3), np.array([2.0]), Fraction(1, 2), -0.0])
def test_a_number_of_any_library_is_logged(run, tmp_path, value):
    run.log("m", value, step=np.int64(1))
    assert read_metrics(tmp_path / "metrics.jsonl") == {"m": float(np.asarray(value, float).reshape(-1)[0])}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        ("0.9", TypeError),
        (None, TypeError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        (np.array([1.0, 2.0]), TypeError),
    ],
)
def test_what_is_no_finite_number_is_refused(run, tmp_path, value, error):
    with pytest.raises(error, match="metric 'm'"):
        run.log("m", value)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "step", "error"), [("", None, ValueError), (1, None, TypeError), ("m", 1.5, TypeError)]
)
def test_a_bad_name_or_step_is_refused(run, name, step, error):
    with pytest.raises(error):
        run.log(name, 1, step=step)


def test_every_value_is_kept(run, tmp_path):
    for step in range(3):
        run.log("loss ü", 1 / (step + 1), step)
    lines = (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_a_script_asks_for_its_inputs_outputs_and_parameters(run):
    assert run.input("data") == Path("/in/data")
    assert run.input("far") == "s3://b/x"
    assert run.output("model") == Path("/out/model")
    assert [run.parameter(name) for name in ("rate", "deep", "tag")] == [0.5, True, None]
    assert (run.pipeline, run.step, run.offline) == ("p", "s", False)


def test_what_the_step_does_not_have_is_named_with_what_it_has(run):
    with pytest.raises(KeyError, match=r"no input 'dat' \(it has: data, far\)"):
        run.input("dat")


def test_outside_of_a_step_metrics_are_printed(offline, capsys):
    offline.log("auc", 0.9, step=2)
    assert capsys.readouterr().err == "metric auc: 0.9 (step 2)\n"
    assert offline.id.startswith("OfflineRun_")


def test_outside_of_a_step_variables_stand_in(offline, monkeypatch):
    monkeypatch.setenv("MLPIPE_INPUT_DATA", "here.csv")
    assert offline.input("data") == Path("here.csv")
    with pytest.raises(KeyError, match="set MLPIPE_OUTPUT_MODEL"):
        offline.output("model")


def test_the_module_needs_only_the_standard_library():
    source = Path(__file__).parents[2] / "airflow_mlpipe" / "runtime" / "run.py"
    assert "airflow_mlpipe" not in source.read_text("utf-8")


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        ("torchrun", "RANK", "2"),
        ("mpi", "OMPI_COMM_WORLD_RANK", "2"),
        ("mpi", "PMI_RANK", "2"),
        ("tensorflow", "MLPIPE_RANK", "2"),
        ("tensorflow", "TF_CONFIG", '{"task": {"type": "worker", "index": 2}}'),
    ],
)
@pytest.mark.parametrize("outputs", ["first", "each"])
def test_the_metrics_of_other_ranks_do_not_count_unless_each_has_outputs(
    tmp_path, monkeypatch, kind, variable, value, outputs
):
    spec = spec_of(distribution=DistributionSpec(kind, processes=3, outputs=outputs))
    (tmp_path / "spec.json").write_bytes(to_json(spec))
    monkeypatch.setenv("MLPIPE_STEP_DIRECTORY", str(tmp_path))
    Run.get_context().log("loss", 0.5)
    monkeypatch.setenv(variable, value)
    assert Run.get_context().rank == 2
    Run.get_context().log("loss", 0.7)
    with pytest.raises(ValueError, match="finite"):
        Run.get_context().log("loss", float("nan"))
    others = {"loss_rank_2": 0.7} if outputs == "each" else {}
    assert read_metrics(tmp_path / "metrics.jsonl") == {"loss": 0.5, **others}


def test_a_step_of_one_process_is_rank_0_whatever_its_variables_say(run, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert run.rank == 0
