from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import ValidationError

from airflow_mlpipe.definitions import DataReference, Environment, PipelineData, PythonScriptStep
from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.faults import AZURE_ML
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import problems


def test_an_unknown_field_is_refused_with_the_nearest():
    assert problems(Environment, requirments=["a"]) == [
        "Environment.requirments: there is no such field (given: requirments). Did you mean requirements?"
    ]


def test_a_field_unlike_any_is_refused_with_all_known():
    (problem,) = problems(Environment, zebra=1)
    assert "Known: name, requirements, requirements_file" in problem


def test_everything_wrong_with_a_definition_comes_at_once():
    found = problems(Environment, requirments=["a"], compare="strikt", python=3, variables={"A": True})
    assert len(found) == 4


def test_a_definition_cannot_be_changed():
    environment = Environment(python="python3")
    with pytest.raises(ValidationError):
        environment.python = "python2"


def test_definitions_of_different_classes_are_never_equal():
    assert DataReference(name="a", path="a") != PipelineData("a")
    assert DataReference(name="a", path="a") == DataReference(name="a", path="a")


def test_equal_definitions_have_equal_hashes():
    assert len({Environment(python="a"), Environment(python="a"), Environment(python="b")}) == 2


def test_a_definition_survives_copying_and_pickling():
    environment = Environment(requirements=["a"], variables={"A": "1"})
    assert copy.deepcopy(environment) == environment == pickle.loads(pickle.dumps(environment))


def test_its_errors_survive_pickling():
    with pytest.raises(DefinitionError) as caught:
        Environment(zebra=1)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


def test_a_definition_already_made_is_taken_as_it_is():
    environment = Environment()
    assert build(Environment, environment) is environment


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda: DataReference(data_reference_name="x"), "name"),
        (lambda: DataReference(name="x", datastore="d", path_on_datastore="a.csv"), "path"),
        (lambda: PipelineData("x", is_directory=True), "kind"),
        (lambda: PythonScriptStep(script_name="a.py", runconfig="conda"), "environment"),
        (lambda: PythonScriptStep(script_name="a.py", compute_target="cluster"), "compute"),
    ],
)
def test_a_field_by_its_name_in_azure_ml_is_told_the_name_here(make, instead):
    with pytest.raises(DefinitionError) as error:
        make()
    assert f"Did you mean {instead}?" in str(error.value)


def test_every_field_that_azure_ml_calls_otherwise_is_one_of_ours():
    ours = {name for cls in (DataReference, PipelineData, PythonScriptStep) for name in cls.__pydantic_fields__}
    assert set(AZURE_ML.values()) <= ours
