from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Module
from airflow_mlpipe.definitions.module import chosen
from tests.definitions.helpers import problems

ONE = {"kind": "command", "command": "true", "outputs": {"x": {}}}


def version(text, *, default=False):
    return Module(name="m", version=text, default=default, step=ONE)


@pytest.mark.parametrize(
    ("versions", "wanted", "expected"),
    [
        (["1.0", "1.9", "1.10"], None, "1.10"),
        (["1.0", "1.9", "1.10"], "1.9", "1.9"),
        (["1.0", "1.0-beta"], None, "1.0"),
        (["2", "10"], None, "10"),
        (["1.0"], "3", None),
        ([], None, None),
    ],
)
def test_the_version_asked_for_is_taken_else_the_highest(versions, wanted, expected):
    found = chosen([version(text) for text in versions], wanted)
    assert (found and found.version) == expected


def test_the_version_marked_as_default_comes_before_the_highest():
    assert chosen([version("1", default=True), version("2")], None).version == "1"
    assert chosen([version("1", default=True), version("2")], "2").version == "2"


def test_the_outputs_of_a_single_step_are_those_of_the_module():
    assert version("1").outer_outputs() == version("1").step.output
    renamed = Module(name="m", version="1", step=ONE, outputs={"y": "${{ steps.m.outputs.x }}"})
    assert renamed.outer_outputs()["y"].output == "x"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "has no step, or both step and steps"),
        ({"step": ONE, "steps": {"a": ONE}}, "has no step, or both step and steps"),
        ({"step": {**ONE, "inputs": {"x2": "${{ inputs.raw }}"}}}, "names an input that the module does not declare"),
        ({"steps": {"a": ONE}, "outputs": {"x": "${{ steps.b.outputs.x }}"}}, "Known: steps.a"),
        (
            {"steps": {"a": ONE}, "outputs": {"x": "${{ steps.a.outputs.xx }}"}},
            "names an output that a does not declare",
        ),
        ({"steps": {"a": ONE}, "outputs": {"x": "s3://b"}}, "must be the output of a step"),
        (
            {"step": {**ONE, "command": "echo ${{ parameters.c }}"}},
            "names a parameter that the module does not declare",
        ),
        ({"step": {"kind": "module", "module": "other"}}, "Write steps:"),
        ({"step": ONE, "version": 1.1}, "write it in quotes"),
        ({"step": ONE, "version": "a b"}, "has characters that cannot stand here"),
        ({"step": ONE, "inputs": [["raw"]]}, "inputs[0]: has no name"),
        ({"step": ONE, "inputs": ["raw", "raw"]}, "inputs[1]: is there twice"),
        ({"step": ONE, "inputs": {"raw": {"typ": "x"}}}, "there is no such field"),
        ({"step": {**ONE, "kind": "comand"}}, "step.kind: is no kind of step"),
    ],
)
def test_a_module_that_does_not_fit_together_is_refused(fields, words):
    (problem,) = problems(Module, **{"name": "m", "version": "1", **fields})
    assert words in problem
