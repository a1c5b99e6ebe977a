from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.definitions import DataReference, PipelineData, PipelineParameter, StepOutput
from airflow_mlpipe.definitions.ports import inputs, outputs, parameters, parameters_in, with_texts
from tests.definitions.helpers import problems, refused, step

RAW = DataReference(name="raw", path="raw.csv")
CLEAN = PipelineData("clean")
C = PipelineParameter("c", default=1.0)


def test_a_list_of_objects_is_taken_by_their_names():
    assert inputs([RAW]) == {"raw": RAW}
    assert outputs([CLEAN, "model"]) == {"clean": CLEAN, "model": PipelineData("model")}
    assert parameters([C]) == {"c": C}


def test_an_output_of_which_nothing_is_said_is_only_named():
    assert outputs({"a": None, "b": {}, "c": {"kind": "file"}}) == {
        "a": PipelineData("a"),
        "b": PipelineData("b"),
        "c": PipelineData("c", kind="file"),
    }


@pytest.mark.parametrize(
    ("made", "written", "words"),
    [
        (inputs, [DataReference(path="x")], "has no name"),
        (inputs, ["raw"], "is nothing that an input can be"),
        (inputs, [RAW, RAW], "is there twice"),
        (outputs, {"a": "x"}, "Write {} where nothing more is to be said"),
        (outputs, {"a": CLEAN}, "Name it a"),
        (outputs, ["a", "a"], "is there twice"),
        (parameters, {"c": {"name": "d"}}, "differs from the key"),
    ],
)
def test_ports_that_cannot_be_told_apart_are_refused(made, written, words):
    with refused(words):
        made(written)


def test_objects_in_arguments_become_expressions():
    producer = StepOutput(step="a", output="x")
    step = with_texts(
        {
            "inputs": {"source": RAW, "other": producer, "late": CLEAN.as_direct()},
            "outputs": [PipelineData("model")],
            "arguments": ["--raw", RAW, "--other", producer, CLEAN, PipelineData("model"), C, 3, Path("x/y")],
            "parameters": {"rate": C, "n": 3},
        }
    )
    assert step["arguments"] == (
        "--raw",
        "${{ inputs.source }}",
        "--other",
        "${{ inputs.other }}",
        "${{ inputs.late }}",
        "${{ outputs.model }}",
        "${{ parameters.c }}",
        3,
        "x/y",
    )
    assert step["parameters"] == {"rate": "${{ parameters.c }}", "n": 3}


def test_an_object_in_arguments_that_is_no_port_is_refused_by_name():
    with refused("arguments[1]: is neither among the inputs nor among the outputs (given: raw)"):
        with_texts({"arguments": ["--raw", RAW]})


def test_a_port_without_a_name_hides_nothing_else_that_is_wrong():
    assert [line.partition(":")[0] for line in problems(step, "a", inputs=[3], outputs=["x", "x"], compute=4)] == [
        "CommandStep.compute",
        "CommandStep.inputs[0]",
        "CommandStep.outputs[1]",
    ]


def test_parameter_objects_are_found_wherever_they_stand():
    d = PipelineParameter("d", default=1)
    assert parameters_in({"arguments": ["--c", C], "parameters": {"d": d}}) == (C, d)
    assert parameters_in({"command": "true"}) == ()
