from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Distribution, EstimatorStep
from airflow_mlpipe.exceptions import DefinitionError, EnvironmentBuildError
from airflow_mlpipe.operators import CommandOperator, EstimatorOperator
from tests.dagfiles import dag_in
from tests.test_imports import HEAVY, modules_after

SCRIPT = """\
import argparse
from pathlib import Path

import yaml
from mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--model", type=Path)
parser.add_argument("--rate", type=float)
args = parser.parse_args()
args.model.write_text(yaml.safe_dump({"rate": args.rate, "data": args.data.read_text()}))
Run.get_context().log("rate", args.rate)
"""
WORKSPACE = """\
frameworks:
  yaml: {requirements: "PyYAML=={version}"}
  missing: {requirements: "no-such-package=={version}"}
"""


@pytest.fixture
def train(tmp_path):
    """Make an operator that trains by a script, beside a workspace with frameworks of its own."""
    (tmp_path / "mlpipe.yaml").write_text(WORKSPACE)
    (tmp_path / "raw.txt").write_text("raw")
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)

    def make(**fields):
        with dag_in(tmp_path, params={"rate": 0.5}):
            return EstimatorOperator(
                task_id="fit",
                entry_script="train.py",
                source_directory="src",
                inputs={"data": "raw.txt"},
                arguments=[
                    "--data=${{ inputs.data }}",
                    "--model=${{ outputs.model }}",
                    "--rate=${{ parameters.rate }}",
                ],
                **fields,
            )

    return make


def test_a_model_is_trained_once_for_the_same_code_data_and_parameters(airflow, train, tmp_path):
    first, second = airflow.run(train(framework="yaml")), airflow.run(train(framework="yaml"), "r2")
    assert (first.outcome, second.outcome) == ("ran", "reused")
    assert set(first.result) == {"model"}
    again = airflow.run(train(framework="yaml"), "r3", conf={"rate": 0.25})
    assert again.said[-1] == "ran: parameter rate: 0.5 -> 0.25"
    (tmp_path / "raw.txt").write_text("other")
    changed = airflow.run(train(framework="yaml"), "r4", conf={"rate": 0.25})
    assert changed.said[-1] == "ran: input data changed"


def test_a_framework_that_is_missing_is_named_before_anything_runs(airflow, train):
    with pytest.raises(EnvironmentBuildError, match="the framework missing needs the package no-such-package"):
        airflow.run(train(framework="missing"))
    assert airflow.xcoms == {}


def test_the_fields_make_the_step_of_a_definition(tmp_path):
    fields = {
        "entry_script": "x.py",
        "source_directory": "src",
        "arguments": ["--c", "${{ parameters.c }}", 3, 0.5],
        "framework": "pytorch",
        "framework_version": "2.4",
        "requirements": ["pandas"],
        "distribution": {"kind": "torchrun", "processes_per_node": "${{ parameters.n }}"},
        "inputs": {"raw": "raw.csv"},
        "outputs": {"weights": {"kind": "file"}},
        "parameters": {"c": 1.0, "n": 2},
        "environment": {"variables": {"X": "1"}},
        "code": "imports",
        "allow_reuse": False,
    }
    with dag_in(tmp_path):
        assert EstimatorOperator(task_id="a", **fields).step == EstimatorStep(name="a", **fields)


def test_its_model_is_the_input_of_other_tasks(tmp_path):
    with dag_in(tmp_path):
        fit = EstimatorOperator(task_id="fit", entry_script="x.py", distribution=Distribution(kind="mpi"))
        use = CommandOperator(task_id="use", command="cat ${{ inputs.model }}", inputs={"model": fit.output["model"]})
        with pytest.raises(DefinitionError, match="names an output that fit does not have"):
            CommandOperator(task_id="wrong", command="true", inputs={"model": fit.output["modell"]})
    assert use.upstream_task_ids == {"fit"}
    assert fit.step.distribution == Distribution(kind="mpi")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"entry_script": None}, "EstimatorOperator\\(task_id='a'\\).entry_script: is missing"),
        ({"distribution": {"kind": "mpi", "nodes": 0}}, "distribution.nodes: must be a whole number of at least 1"),
        ({"distribution": {"kind": "mpi", "nodes": "{{ params.n }}"}}, "distribution.nodes: must be a whole number"),
        ({"framework_version": "1"}, "framework_version: is that of no framework"),
    ],
)
def test_what_is_wrong_is_said_when_the_dag_is_parsed(tmp_path, fields, words):
    with dag_in(tmp_path), pytest.raises(DefinitionError, match=words):
        EstimatorOperator(task_id="a", **{"entry_script": "x.py", **fields})


def test_a_dag_file_that_uses_it_imports_no_client_of_a_compute_target(tmp_path):
    imported = modules_after("from airflow_mlpipe.operators import EstimatorOperator, MpiOperator", tmp_path)
    assert "airflow_mlpipe.operators.written" in imported
    assert not imported & set(HEAVY)
