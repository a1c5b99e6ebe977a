from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Distribution, EstimatorStep, PipelineData, Workspace, dump
from tests.definitions.helpers import located, problems, read

TRAIN = {"entry_script": "train.py", "source_directory": "src"}


def test_an_estimator_is_named_after_its_script_and_leaves_a_model():
    made = EstimatorStep(**TRAIN)
    assert made.name == "train"
    assert made.outputs == {"model": PipelineData("model")}
    assert list(made.output) == ["model"]
    assert made.script == "train.py"


@pytest.mark.parametrize("outputs", [["report"], {"report": {}}, []])
def test_outputs_that_are_given_take_the_place_of_the_model(outputs):
    assert list(EstimatorStep(**TRAIN, outputs=outputs).outputs) == [*outputs]


@pytest.mark.parametrize(("given", "version"), [("1.7.2", "1.7.2"), (2.4, "2.4"), (3, "3"), ("2.4.*", "2.4.*")])
def test_a_version_is_taken_as_it_is_written(given, version):
    assert EstimatorStep(**TRAIN, framework="sklearn", framework_version=given).framework_version == version


def test_a_version_in_a_file_keeps_its_zeros(project):
    text = """
        name: p
        steps:
          train: {kind: estimator, entry_script: train.py, source_directory: src, framework: x, framework_version: 1.10}
        """
    workspace = Workspace(frameworks={"x": {}}).located(project)
    assert read(text, project, workspace).step("train").framework_version == "1.10"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"framework": "sklearn", "framework_version": ">=1.2"}, "framework_version: is no version (given: >=1.2)"),
        ({"framework": "sklearn", "framework_version": True}, "framework_version: is no version (given: true)"),
        ({"framework_version": "1.2"}, "framework_version: is that of no framework (given: 1.2)"),
        ({"requirements": ["-r more.txt"]}, "requirements[0]: is not a requirement (given: -r more.txt)"),
        ({"requirements": 3}, "requirements: must be a list"),
        ({"distribution": 2}, "distribution: must be a mapping of fields to values"),
        ({"distribution": {"nodes": 0}}, "distribution.nodes: must be a whole number of at least 1 (given: 0)"),
        ({"script_name": "a.py"}, "script_name: there is no such field"),
        ({"arguments": ["${{ inputs.x }}"]}, "arguments[0]: names an input that the step does not declare"),
        ({"code": "files"}, "code: must be one of directory, imports"),
    ],
)
def test_what_is_wrong_is_said_by_its_field(fields, words):
    (problem,) = problems(EstimatorStep, **TRAIN, **fields)
    assert problem.startswith(f"EstimatorStep.{words}")


def test_an_unknown_framework_is_named_with_its_place_and_what_was_meant(project):
    text = """
        name: p
        steps:
          train:
            kind: estimator
            entry_script: train.py
            source_directory: src
            framework: {}
        """
    assert located(read, text.replace("{}", "skleran"), project) == [(8, 16, "steps.train.framework")]
    (problem,) = problems(read, text.replace("{}", "skleran"), project)
    assert "steps.train.framework: is no framework (given: skleran). Did you mean sklearn?" in problem
    (problem,) = problems(read, text.replace("{}", "mxnet"), project)
    assert (
        "Known: sklearn, xgboost, lightgbm, pytorch, tensorflow, huggingface. Or define it among the framew" in problem
    )


def test_an_estimator_is_written_as_it_was_read(project):
    text = """
        name: p
        steps:
          fit:
            kind: estimator
            entry_script: train.py
            source_directory: src
            framework: sklearn
            framework_version: 1.7.2
            requirements: [pandas]
            distribution: {kind: mpi, processes_per_node: 2, outputs_of: each}
        """
    made = read(text, project)
    assert read(dump(made), project) == made
    assert made.step("fit").distribution == Distribution(kind="mpi", processes_per_node=2, outputs_of="each")


def test_an_estimator_of_a_module_takes_the_values_of_its_use(project):
    modules = project / "modules"
    modules.mkdir()
    (modules / "train.py").write_text("")
    (modules / "fit.yaml").write_text(
        """
name: fit
version: "1"
parameters: {ranks: 2}
step:
  kind: estimator
  entry_script: train.py
  distribution: {kind: mpi, processes_per_node: "${{ parameters.ranks }}"}
"""
    )
    text = """
        name: p
        steps:
          fit: {kind: module, module: fit, parameters: {ranks: 4}}
        """
    made = read(text, project).step("fit")
    assert (made.kind, made.source_directory, made.parameters) == ("estimator", "modules", {"ranks": 4})
    assert made.distribution.processes_per_node == "${{ parameters.ranks }}"
