from __future__ import annotations

from pathlib import Path

import pytest
from airflow.configuration import AIRFLOW_HOME

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import DefinitionError
from airflow_mlpipe.operators.here import open_site, workspace_at


@pytest.fixture
def named(tmp_path):
    """Return the file of a workspace of that name, in a folder of its own."""

    def write(name, folder=None):
        folder = tmp_path / (folder or name)
        folder.mkdir(exist_ok=True)
        file = folder / "mlpipe.yaml"
        file.write_text(f"name: {name}\n")
        return file

    return write


def test_without_any_there_is_local_compute_only(tmp_path):
    assert workspace_at(None, tmp_path) == Workspace()


def test_the_first_of_argument_variable_setting_and_file_beside_counts(tmp_path, named, monkeypatch):
    named("beside", "dags")
    dags = tmp_path / "dags"
    found = [workspace_at(None, dags).name]
    monkeypatch.setenv("AIRFLOW__MLPIPE__WORKSPACE", str(named("setting")))
    found.append(workspace_at(None, dags).name)
    monkeypatch.setenv("MLPIPE_WORKSPACE", str(named("variable")))
    found.append(workspace_at(None, dags).name)
    found.append(workspace_at(named("argument"), dags).name)
    assert found == ["beside", "setting", "variable", "argument"]


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(DefinitionError, match=r"nowhere\.yaml: cannot be read"):
        workspace_at(tmp_path / "nowhere.yaml", tmp_path)


def test_a_file_is_read_once_in_a_process(tmp_path, named):
    file = named("dags")
    first = workspace_at(None, file.parent)
    file.unlink()
    assert workspace_at(None, file.parent) is first
    assert workspace_at(None, tmp_path).name is None


def test_outputs_are_kept_in_the_home_of_airflow():
    assert open_site(Workspace()).store.root == str(Path(AIRFLOW_HOME) / "mlpipe")


def test_the_workspace_says_where_else_outputs_are_kept(tmp_path):
    workspace = Workspace(store="outputs").located(tmp_path)
    assert open_site(workspace).store.root == str(tmp_path / "outputs")


def test_connections_are_those_of_airflow(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", '{"conn_type": "s3", "login": "me", "password": "s3cr3t-of-here"}')
    workspace = Workspace(datastores={"lake": {"url": "s3://lake", "connection": "lake"}}).located(tmp_path)
    assert open_site(workspace).storage_options("lake") == {"key": "me", "secret": "s3cr3t-of-here"}
