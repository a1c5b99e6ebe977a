from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_mlpipe.cli.project import Project, default_private, workspace_file
from airflow_mlpipe.exceptions import AirflowError, DefinitionError


def test_private_things_lie_beside_the_definition(project):
    found = Project.open(project.file)
    assert found.private == project.folder / ".mlpipe"
    assert found.airflow_home == project.folder / ".mlpipe" / "airflow"
    assert found.site.store.local_root == project.folder / ".mlpipe" / "store"


def test_private_things_lie_beside_a_workspace_that_lies_elsewhere(project):
    workspace = project.write("team/mlpipe.yaml", "name: team\n")
    assert Project.open(project.file, workspace=workspace).private == project.folder / "team" / ".mlpipe"


def test_the_environment_names_another_private_folder_and_another_store(project, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "mine"))
    found = Project.open(project.file)
    assert found.private == default_private(tmp_path) == tmp_path / "mine"
    assert found.site.store.local_root == tmp_path / "mine" / "store"
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert Project.open(project.file).site.store.local_root == tmp_path / "airflow" / "mlpipe"
    monkeypatch.setenv("MLPIPE_STORE", str(tmp_path / "store"))
    assert Project.open(project.file).site.store.local_root == tmp_path / "store"


def test_another_process_is_led_to_the_same_store(project):
    found = Project.open(project.file)
    assert found.store_variables() == {"MLPIPE_STORE": found.site.store.url}
    project.write("mlpipe.yaml", "store: kept\n")
    found = Project.open(project.file)
    assert found.site.store.local_root == project.folder / "kept"
    assert found.store_variables() == {}


def test_another_process_is_led_to_the_compute_target_that_was_named(project):
    project.write("mlpipe.yaml", "store: kept\ncompute: {box: {kind: docker, image: python}}\n")
    assert Project.open(project.file).variables() == {}
    found = Project.open(project.file, compute="box")
    assert found.variables() == {"MLPIPE_COMPUTE": "box"}
    assert found.workspace.compute_of(found.pipeline, found.pipeline.steps[0]).name == "box"


def test_the_named_compute_target_wins_over_that_of_the_environment(project, monkeypatch):
    project.write("mlpipe.yaml", "compute: {box: {kind: docker, image: python}}\n")
    monkeypatch.setenv("MLPIPE_COMPUTE", "box")
    found = Project.open(project.file, compute="local")
    assert found.workspace.compute_of(found.pipeline, found.pipeline.steps[0]).name == "local"
    assert found.variables()["MLPIPE_COMPUTE"] == "local"


def test_the_workspace_is_named_by_option_environment_or_airflow(tmp_path, monkeypatch):
    assert workspace_file(None) is None
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert workspace_file(None) is None
    (tmp_path / "airflow.cfg").write_text("[core]\nx = %d\n[mlpipe]\nworkspace = /airflow/mlpipe.yaml\n")
    assert str(workspace_file(None)) == "/airflow/mlpipe.yaml"
    monkeypatch.setenv("AIRFLOW__MLPIPE__WORKSPACE", "/variable/mlpipe.yaml")
    assert str(workspace_file(None)) == "/variable/mlpipe.yaml"
    monkeypatch.setenv("MLPIPE_WORKSPACE", "/own/mlpipe.yaml")
    assert str(workspace_file(None)) == "/own/mlpipe.yaml"
    assert str(workspace_file(tmp_path / "mlpipe.yaml")) == str(tmp_path / "mlpipe.yaml")


def test_airflow_settings_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    (tmp_path / "airflow.cfg").write_text("no section\n")
    with pytest.raises(DefinitionError, match=r"airflow\.cfg"):
        workspace_file(None)


def test_relative_paths_start_at_another_folder_if_one_is_named(project, tmp_path):
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(project.file.read_text())
    with pytest.raises(DefinitionError):
        Project.open(elsewhere)
    assert Project.open(elsewhere, folder=project.folder).private == project.folder / ".mlpipe"


def test_git_sees_nothing_of_the_private_folder(project):
    Project.open(project.file).make_private()
    assert (project.folder / ".mlpipe" / ".gitignore").read_text() == "*\n"


def test_a_private_folder_that_cannot_be_made_is_named_with_the_remedy(project):
    project.write(".mlpipe", "a file")
    with pytest.raises(AirflowError, match="MLPIPE_HOME"):
        Project.open(project.file).make_private()


def test_a_connection_is_asked_of_airflow_and_only_if_it_is_used(project):
    project.write("mlpipe.yaml", f"datastores: {{lake: {{url: 'file://{project.folder}', connection: lake_conn}}}}\n")
    project.edit("small.yaml", "{raw: {path: raw.txt}}", "{raw: {datastore: lake, path: raw.txt}}")
    code = (
        "import sys; from pathlib import Path; from airflow_mlpipe.cli.project import Project\n"
        f"site = Project.open(Path({str(project.file)!r})).site\n"
        "assert 'airflow' not in sys.modules\n"
        f"fs, path = site.open_uri('file://{project.folder}/raw.txt', 'lake')\n"
        "print(fs.auto_mkdir, path)"
    )
    connection = '{"conn_type": "generic", "extra": {"storage_options": {"auto_mkdir": true}}}'
    environment = {**os.environ, "AIRFLOW_CONN_LAKE_CONN": connection}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == [f"True {project.folder}/raw.txt"], done.stderr
