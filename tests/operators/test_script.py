from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.definitions import CommandStep, PythonScriptStep
from airflow_mlpipe.exceptions import CommandFailedError, DefinitionError, SourceError
from airflow_mlpipe.operators import CommandOperator, PythonScriptOperator
from tests.dagfiles import dag_in
from tests.test_imports import HEAVY, modules_after

SCRIPT = """\
import sys
import helper
from mlpipe import Run

with open(sys.argv[1], "w") as file:
    file.write(helper.text(float(sys.argv[2])))
Run.get_context().log("rate", float(sys.argv[2]))
"""


@pytest.fixture
def train(tmp_path):
    """Make an operator that runs a script beside a module that it imports."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    (source / "helper.py").write_text("def text(rate): return f'rate {rate}'\n")
    (source / "notes.txt").touch()

    def make(**fields):
        with dag_in(tmp_path, params={"rate": 0.5}):
            return PythonScriptOperator(
                task_id="train",
                script_name="train.py",
                source_directory="src",
                arguments=["${{ outputs.model }}", "${{ parameters.rate }}"],
                outputs=["model"],
                **fields,
            )

    return make


def test_a_script_runs_once_for_the_same_code_and_parameters(airflow, train):
    first, second = airflow.run(train()), airflow.run(train(), "r2")
    assert (first.outcome, second.outcome) == ("ran", "reused")
    assert first.result == second.result
    assert airflow.run(train(), "r3", conf={"rate": 0.25}).said[-1] == "ran: parameter rate: 0.5 -> 0.25"


@pytest.mark.parametrize(("code", "outcome"), [("directory", "ran"), ("imports", "reused")])
def test_what_counts_as_code_is_the_users_word(airflow, train, tmp_path, code, outcome):
    airflow.run(train(code=code))
    (tmp_path / "src" / "notes.txt").write_text("edited")
    assert airflow.run(train(code=code), "r2").outcome == outcome
    (tmp_path / "src" / "helper.py").write_text("def text(rate): return 'other'\n")
    assert airflow.run(train(code=code), "r3").outcome == "ran"


def test_a_source_directory_may_be_a_path_object(airflow, train, tmp_path):
    with dag_in(tmp_path / "elsewhere"):
        operator = PythonScriptOperator(task_id="a", script_name="helper.py", source_directory=tmp_path / "src")
    assert airflow.run(operator).outcome == "ran"
    assert train().step.source_directory == "src"


def test_a_script_that_has_gone_since_the_dag_was_parsed_is_named(airflow, train, tmp_path):
    operator = train()
    (tmp_path / "src" / "train.py").unlink()
    with pytest.raises(SourceError, match=r"the script 'train\.py' is not among the files of the source directory"):
        airflow.run(operator)


def test_a_script_that_fails_fails_the_task_and_leaves_nothing(airflow, train, tmp_path):
    (tmp_path / "src" / "helper.py").write_text("def text(rate): raise SystemExit(3)\n")
    with pytest.raises(CommandFailedError, match="exit code 3"):
        airflow.run(train())
    assert airflow.xcoms == {}


def test_the_fields_make_the_step_of_a_definition(tmp_path):
    fields = {
        "script_name": "x.py",
        "source_directory": "src",
        "arguments": ["--c", "${{ parameters.c }}", 3, 0.5],
        "inputs": {"raw": "raw.csv"},
        "outputs": {"model": {"kind": "file"}},
        "parameters": {"c": 1.0},
        "environment": {"variables": {"X": "1"}},
        "code": "imports",
        "allow_reuse": False,
    }
    with dag_in(tmp_path):
        assert PythonScriptOperator(task_id="a", **fields).step == PythonScriptStep(name="a", **fields)


def test_a_command_is_a_line_for_the_shell_or_a_list(tmp_path):
    with dag_in(tmp_path):
        for number, command in enumerate(["echo $HOME | cat", ["echo", "$HOME", 3]]):
            operator = CommandOperator(task_id=f"a{number}", command=command)
            assert operator.step == CommandStep(name=f"a{number}", command=command)
            assert operator.command == command


def test_values_in_a_line_for_the_shell_are_never_read_as_shell(airflow, tmp_path):
    with dag_in(tmp_path, params={"text": "x"}):
        operator = CommandOperator(task_id="a", command="echo ${{ parameters.text }}")
    assert "$(date); 'a' * \"b\"" in airflow.run(operator, conf={"text": "$(date); 'a' * \"b\""}).said


def test_a_command_without_source_directory_starts_in_an_empty_folder(airflow, tmp_path):
    (tmp_path / "dag.py").touch()
    with dag_in(tmp_path):
        operator = CommandOperator(task_id="a", command="echo there is $(ls) nothing")
    assert "there is nothing" in airflow.run(operator).said


def test_an_empty_command_and_a_script_outside_are_refused(tmp_path):
    with dag_in(tmp_path):
        with pytest.raises(DefinitionError, match="command: must not be empty"):
            CommandOperator(task_id="a", command=[])
        with pytest.raises(DefinitionError, match="script_name: must not lead out of its folder"):
            PythonScriptOperator(task_id="b", script_name="../x.py")


def test_neither_does_anything_when_the_dag_is_parsed(train, tmp_path):
    train()
    assert {path.name for path in Path(tmp_path).iterdir()} == {"src"}


def test_a_dag_file_that_uses_the_operators_imports_no_client_of_a_compute_target(tmp_path):
    imported = modules_after(
        "from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, PythonScriptOperator", tmp_path
    )
    assert "airflow_mlpipe.operators.written" in imported
    assert not imported & set(HEAVY)
