from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import CommandStep
from airflow_mlpipe.definitions.kinds import step_of, steps_of
from airflow_mlpipe.definitions.sequence import listed
from tests.definitions.helpers import refused, step


def test_plain_data_becomes_a_step_of_its_kind():
    assert step_of({"kind": "command", "name": "a", "command": "true"}) == CommandStep(name="a", command="true")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "pythonscript"}, "Did you mean python_script?"),
        ({"kind": "spark"}, "Known: python_script, command, estimator, mpi, data_transfer, module"),
        ({"kind": ["command"]}, "is no kind of step"),
        ({"script_name": "a.py"}, "kind: is missing. Write kind: python_script"),
        ({"entry_script": "a.py"}, "kind: is missing. Write kind: estimator"),
        ({"script_name": "a.py", "node_count": 2}, "kind: is missing. Write kind: mpi"),
        ({"kind": "estimatr"}, "Did you mean estimator?"),
        ({}, "kind: is missing. Write kind: and one of"),
        ("command", "must be a mapping"),
        (None, "must be a mapping"),
    ],
)
def test_a_step_of_no_known_kind_is_refused(given, words):
    with refused(words):
        step_of(given)


def test_everything_wrong_in_all_steps_comes_at_once():
    with refused("a.kind", "b.command", "c.retries"):
        steps_of(
            listed(
                {
                    "a": {"kind": "comand"},
                    "b": {"kind": "command"},
                    "c": {"kind": "command", "command": "true", "retries": "x"},
                }
            )
        )


def test_two_steps_of_one_name_are_refused():
    with refused("[1]: is the name of another step too"):
        steps_of(listed([step("a"), step("a")]))
