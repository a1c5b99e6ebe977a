from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import DAG, task, task_group

from airflow_mlpipe.definitions import DataReference, StepOutput
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.inputs import LATER, as_defined, given_by_tasks, is_given, known, names_used

OUTPUT = {"uri": "file:///x", "digest": "sha256:0", "size": 1, "files": 1, "kind": "file"}


@pytest.fixture
def given():
    """What an ordinary task returns, and an output of one of our operators."""

    @task
    def path():
        return "/data"

    with DAG("d", schedule=None):
        ours = CommandOperator(task_id="ours", command="true", outputs=["clean"])
        return path(), ours.output["clean"]


def test_what_tasks_return_is_given_also_piece_by_piece(given):
    returned, output = given
    assert all(map(is_given, [returned, output, returned.map(str), returned.zip(returned)]))


def test_what_a_mapped_task_group_is_expanded_over_is_given():
    seen = []

    @task_group
    def group(text):
        seen.append(text)
        CommandOperator(task_id="a", command="true", parameters={"text": text})

    with DAG("d", schedule=None):
        group.expand(text=["a", "b"])
    assert is_given(seen[0])


@pytest.mark.parametrize("value", ["x", Path("x"), 3, None, {"a": 1}, ["a"], DataReference(path="x"), OUTPUT])
def test_what_stands_in_the_dag_file_is_not_given(value):
    assert not is_given(value)


def test_inputs_that_tasks_give_are_told_from_those_that_are_there(given):
    returned, output = given
    inputs = {"a": returned, "b": output, "c": "raw.csv", "d": {"path": returned}, "e": OUTPUT, "f": None}
    assert given_by_tasks(inputs) == {"a": returned, "b": output, "e": OUTPUT}


@pytest.mark.parametrize("inputs", [[DataReference(path="x")], ["x", "x"], 3, None, "x"])
def test_inputs_that_the_definition_will_refuse_are_given_by_nobody(inputs):
    assert given_by_tasks(inputs) == {}


def test_inputs_in_a_list_know_their_names():
    assert given_by_tasks([DataReference(name="raw", path="x")]) == {}


def test_a_definition_sees_the_output_of_the_task_that_gives_an_input(given):
    returned, output = given
    inputs = {"a": returned, "b": output, "c": "raw.csv", "d": {"path": returned}, "e": OUTPUT}
    assert as_defined(inputs, ["a", "b", "e"]) == {
        "a": StepOutput(step="path", output="return_value"),
        "b": StepOutput(step="ours", output="clean"),
        "c": "raw.csv",
        "d": {"path": LATER},
        "e": StepOutput(step=LATER, output="data"),
    }


def test_a_key_that_can_be_no_name_stands_for_the_whole():
    with DAG("d", schedule=None):
        other = CommandOperator(task_id="other", command="true")
    assert as_defined({"a": other.output["two words"]}, ["a"])["a"].output == "return_value"


@pytest.mark.parametrize("inputs", [[DataReference(name="raw", path="x")], 3, None])
def test_inputs_that_are_no_mapping_are_left_to_the_definition(inputs):
    assert as_defined(inputs, []) is inputs


def test_what_is_not_known_yet_has_a_stand_in_wherever_it_is(given):
    returned, _ = given
    assert known(returned) == LATER
    assert known({"a": [returned, ("b", returned)], "c": 3}) == {"a": [LATER, ["b", LATER]], "c": 3}


def test_the_names_of_a_field_that_is_not_known_are_those_that_others_use():
    fields = ["${{ inputs.a }} ${{outputs.b}}", ["--x=${{  inputs.c }}", {"k": "${{ inputs.a }}"}], 3, None]
    assert names_used("inputs", fields) == {"a": LATER, "c": LATER}
    assert names_used("outputs", fields) == {"b": LATER}
    assert names_used("parameters", fields) == {}
