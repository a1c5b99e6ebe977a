from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import MpiStep
from airflow_mlpipe.exceptions import DefinitionError, ParameterError
from airflow_mlpipe.operators import MpiOperator
from tests.dagfiles import dag_in


def test_the_fields_make_the_step_of_a_definition(tmp_path):
    fields = {
        "script_name": "x.py",
        "source_directory": "src",
        "arguments": ["--c", "${{ parameters.c }}"],
        "node_count": 1,
        "process_count_per_node": "${{ parameters.n }}",
        "options": ["--oversubscribe"],
        "hostfile": "hosts",
        "outputs_of": "each",
        "inputs": {"raw": "raw.csv"},
        "outputs": {"sums": {"kind": "file"}},
        "parameters": {"c": 1.0, "n": 2},
        "environment": {"variables": {"X": "1"}},
        "allow_reuse": False,
    }
    with dag_in(tmp_path):
        assert MpiOperator(task_id="a", **fields).step == MpiStep(name="a", **fields)


@pytest.mark.parametrize("command", ["./solve | cat", ["./solve", 3]])
def test_a_command_takes_the_place_of_a_script(tmp_path, command):
    with dag_in(tmp_path):
        operator = MpiOperator(task_id="a", command=command, process_count_per_node=2)
    assert operator.step == MpiStep(name="a", command=command, process_count_per_node=2)
    assert operator.command == command
    assert operator.step.source_directory is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, r"MpiOperator\(task_id='a'\).command: is missing, and so is script_name"),
        ({"command": "x", "script_name": "x.py"}, "command: is given beside script_name"),
        ({"command": "x", "node_count": 0}, "node_count: must be a whole number of at least 1"),
        ({"command": "x", "process_count_per_node": "two"}, "process_count_per_node: must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_when_the_dag_is_parsed(tmp_path, fields, words):
    with dag_in(tmp_path), pytest.raises(DefinitionError, match=words):
        MpiOperator(task_id="a", **fields)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "node_count is .* which comes to 0 in this run"), (2, "node_count is 2, and the step runs on a local target")],
)
def test_a_count_from_the_trigger_form_is_checked_before_anything_runs(airflow, tmp_path, count, words):
    with dag_in(tmp_path, params={"n": 1}):
        operator = MpiOperator(task_id="a", command="true", node_count="${{ parameters.n }}")
    with pytest.raises(ParameterError, match=words):
        airflow.run(operator, conf={"n": count})
