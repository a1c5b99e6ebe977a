from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    CommandStep,
    DataReference,
    DataTransferStep,
    Destination,
    Environment,
    PipelineData,
    PythonScriptStep,
    StepOutput,
)
from airflow_mlpipe.definitions.expressions import Ref
from tests.definitions.helpers import problems

SCRIPT = {"name": "train", "script_name": "train.py"}


def test_a_script_step_is_named_after_its_script_where_nothing_else_is_said():
    assert PythonScriptStep(script_name="src/train.py").name == "train"
    assert PythonScriptStep(script_name=Path("train.py"), source_directory=Path("src")).source_directory == "src"


def test_a_step_says_what_it_refers_to_and_where():
    made = PythonScriptStep(
        **SCRIPT,
        arguments=["--c=${{ parameters.c }}", "${{ inputs.raw }}"],
        inputs={"raw": "data/${{ run.run_after }}", "late": "${{ steps.a.outputs.x }}"},
        outputs={"model": {"destination": {"datastore": "d", "path": "m/${{ parameters.c }}"}}},
        parameters={"rate": "${{ parameters.rate }}", "n": 1},
        environment={"variables": {"A": "${{ parameters.a }}"}},
    )
    assert made.references() == (
        (("arguments", 0), Ref("parameters", "c")),
        (("arguments", 1), Ref("inputs", "raw")),
        (("parameters", "rate"), Ref("parameters", "rate")),
        (("inputs", "raw", "path"), Ref("run", "run_after")),
        (("outputs", "model", "destination", "path"), Ref("parameters", "c")),
        (("environment", "variables", "A"), Ref("parameters", "a")),
    )


def test_a_data_transfer_reads_and_leaves_data():
    made = DataTransferStep(name="t", source="s3://b/${{ parameters.x }}", destination={"datastore": "d", "path": "p"})
    assert made.inputs == {"data": DataReference(name="data", url="s3://b/${{ parameters.x }}")}
    assert made.outputs == {"data": PipelineData("data", destination=Destination(datastore="d", path="p"))}
    assert made.parameters == {}
    assert made.output["data"] == StepOutput(step="t", output="data")
    assert made.references() == ((("source", "url"), Ref("parameters", "x")),)


def test_fields_are_normal_whatever_form_they_were_written_in():
    made = CommandStep(
        name="a",
        command=["echo", 1, 0.5],
        run_after=PythonScriptStep(**SCRIPT),
        environment={"requirements": ["numpy"]},
        retry_delay="5 minutes",
    )
    assert made.command == ("echo", "1", "0.5")
    assert made.run_after == ("train",)
    assert made.environment == Environment(requirements=("numpy",))
    assert made.retry_delay == timedelta(minutes=5)


def test_each_output_can_be_named_for_another_step():
    assert PythonScriptStep(**SCRIPT, outputs=["model"]).output == {"model": StepOutput(step="train", output="model")}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"arguments": ["${{ inputs.raww }}"], "inputs": {"raw": "x"}}, "Did you mean inputs.raw?"),
        ({"arguments": ["${{ outputs.model }}"]}, "names an output that the step does not declare"),
        ({"arguments": ["${{ steps.a.outputs.x }}"]}, "Declare an input, inputs: {x: '${{ steps.a.outputs.x }}'}"),
        ({"arguments": ["${{ nonsense }}"]}, "arguments[0]: this expression means nothing here"),
        ({"arguments": "--x 1"}, "must be a list"),
        ({"arguments": [True]}, "write it in quotes"),
        ({"parameters": {"a": "${{ inputs.x }}"}}, "It may hold"),
        ({"parameters": {"a": [1]}}, "must be a text, a number, true or false"),
        ({"parameters": {"a": None}}, "is empty"),
        ({"parameters": {"a": float("nan")}}, "must be a finite number"),
        ({"inputs": {"x": "a"}, "outputs": {"x": {}}}, "is the same name as inputs.x"),
        ({"inputs": {"x": "a", "X": "b"}}, "upper and lower case are not told apart"),
        ({"outputs": {"x": {}, "X": {}}}, "is the same name as outputs.x"),
        ({"parameters": {"x": 1, "X": 2}}, "is the same name as parameters.x"),
        ({"outputs": {"../x": {}}}, "a name consists of"),
        ({"inputs": {"a b": "x"}}, "a name consists of"),
        ({"script_name": "../train.py"}, "must not lead out of its folder"),
        ({"script_name": "/train.py"}, "must be relative, not absolute"),
        ({"script_name": 3}, "must be a text"),
        ({"code": "import"}, "Did you mean imports?"),
        ({"retries": True}, "must be a whole number"),
        ({"retries": -1}, "must be at least 0"),
        ({"retries": 1.5}, "must be a whole number"),
        ({"allow_reuse": "no"}, "must be true or false"),
        ({"timeout": "soon"}, "is not a duration"),
        ({"on_failure": "notify"}, "Write module.function"),
        ({"labels": {"a": 1}}, "write it in quotes"),
        ({"environment": ["numpy"]}, "must be the name of an environment"),
        ({"nam": "x"}, "there is no such field"),
    ],
)
def test_a_step_that_could_not_run_is_refused(fields, words):
    (problem,) = problems(PythonScriptStep, **{**SCRIPT, **fields})
    assert words in problem


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 300, "../x", ""])
def test_a_step_with_a_name_that_is_no_word_is_refused(name):
    assert "PythonScriptStep.name" in problems(PythonScriptStep, name=name, script_name="a.py")[0]


def test_an_input_may_have_the_name_of_a_parameter():
    made = PythonScriptStep(**SCRIPT, inputs={"x": "a"}, parameters={"x": 1})
    assert (list(made.inputs), made.parameters) == (["x"], {"x": 1})


@pytest.mark.parametrize("command", ["", "  ", []])
def test_a_command_that_does_nothing_is_refused(command):
    assert "must not be empty" in problems(CommandStep, name="a", command=command)[0]


def test_a_step_without_what_its_kind_needs_is_refused():
    assert problems(PythonScriptStep, name="a") == ["PythonScriptStep.script_name: is missing. Give script_name"]
    assert len(problems(DataTransferStep, name="a")) == 2


@pytest.mark.parametrize(
    ("command", "words"), [(3, "must be a list"), (["a", None], "command[1]: must be a text"), ({}, "must be a list")]
)
def test_a_command_of_another_type_is_refused(command, words):
    (problem,) = problems(CommandStep, name="a", command=command)
    assert words in problem
