from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.definitions import Environment
from tests.definitions.helpers import problems


def test_requirements_may_be_one_text():
    assert Environment(requirements="numpy>=2").requirements == ("numpy>=2",)


def test_a_variable_may_be_a_number():
    assert Environment(variables={"OMP_NUM_THREADS": 1}).variables == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"secrets": {"PASSWORD": "hunter2"}}, "connection:<id>.<field>"),
        ({"secrets": {"PASSWORD": "connection:warehouse"}}, "connection:<id>.<field>"),
        ({"secrets": {"A": "variable:x"}, "variables": {"A": "1"}}, "is also among variables"),
        ({"variables": {"A B": "1"}}, "Use letters, digits and '_'"),
        ({"variables": {"MLPIPE_INPUT_X": "1"}}, "choose another name"),
        ({"variables": {"A": True}}, "write it in quotes"),
        ({"variables": {"A": "${{ inputs.x }}"}}, "It may hold"),
        ({"requirements": ["-r requirements.txt"]}, "requirements_file"),
        ({"requirements": [""]}, "Leave empty lines out"),
        ({"compare": "strickt"}, "Did you mean strict?"),
    ],
)
def test_an_environment_that_could_not_work_is_refused(fields, words):
    (problem,) = problems(Environment, **fields)
    assert words in problem


@pytest.mark.parametrize("source", ["hunter2", 12345])
def test_what_may_be_a_secret_is_never_shown(source):
    (problem,) = problems(Environment, secrets={"PASSWORD": source})
    assert str(source) not in problem


@pytest.mark.parametrize("source", ["connection:warehouse.password", "connection:my-id.extra.key", "variable:api/key"])
def test_secrets_come_from_connections_and_variables(source):
    assert Environment(secrets={"A": source}).secrets == {"A": source}


def test_paths_start_at_the_folder_of_the_definition():
    environment = Environment(requirements_file="req.txt", python="venv/bin/python")
    assert environment.requirements_path(Path("/p")) == Path("/p/req.txt")
    assert environment.interpreter(Path("/p")) == "/p/venv/bin/python"
    assert Environment(python="python3.12").interpreter(Path("/p")) == "python3.12"
    assert Environment().requirements_path(Path("/p")) is Environment().interpreter(Path("/p")) is None
