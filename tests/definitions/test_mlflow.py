from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import DefinitionError


def test_a_workspace_names_a_tracking_server():
    workspace = Workspace(mlflow={"tracking_uri": "http://mlflow:5000/", "connection": "mlflow", "experiment": "churn"})
    assert (workspace.mlflow.address, workspace.mlflow.connection) == ("http://mlflow:5000", "mlflow")
    assert Workspace(mlflow="https://mlflow.example.com/track").mlflow.address == "https://mlflow.example.com/track"
    assert Workspace().mlflow is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "mlflow:5000",
            "mlflow.tracking_uri: is no address of an MLflow server (given: mlflow:5000). Write it as http://",
        ),
        ("databricks", "is no address of an MLflow server"),
        ("sqlite:///mlflow.db", "is no address of an MLflow server"),
        ({}, "mlflow.tracking_uri: is missing"),
        ({"tracking_uri": "http://m", "experiments": "x"}, "there is no such field"),
        (5, "mlflow"),
    ],
)
def test_what_is_no_server_is_refused(given, words):
    with pytest.raises(DefinitionError) as caught:
        Workspace(mlflow=given)
    assert words in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(DefinitionError) as caught:
        Workspace(mlflow="http://me:hunter2@mlflow:5000")
    assert "holds a password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
