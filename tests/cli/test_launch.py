from __future__ import annotations

import subprocess
import time

from airflow_mlpipe.cli import launch
from airflow_mlpipe.cli.launch import KEPT_LOGS, Launched, _keep, _log_folder, _write_dag_file
from airflow_mlpipe.cli.project import Project


def test_each_definition_has_a_dag_file_in_a_folder_of_its_own(project):
    first = _write_dag_file(Project.open(project.file))
    other = project.write("other.yaml", project.file.read_text())
    second = _write_dag_file(Project.open(other))
    assert first.parent != second.parent
    assert list(first.parent.iterdir()) == [first]


def test_a_dag_file_is_written_again_only_if_it_says_something_else(project):
    found = Project.open(project.file)
    before = _write_dag_file(found).stat().st_ino
    assert _write_dag_file(found).stat().st_ino == before
    workspace = project.write("mlpipe.yaml", "name: here\n")
    named = Project.open(project.file, workspace=workspace)
    assert str(workspace) in _write_dag_file(named).read_text()


def test_a_dag_file_survives_quotes_in_paths(tmp_path):
    from tests.cli.helpers import Project as Files

    odd = Files.make(tmp_path / 'it\'s a "folder"')
    compile(_write_dag_file(Project.open(odd.file)).read_text(), "pipeline.py", "exec")


def test_only_the_newest_logs_are_kept(project):
    found = Project.open(project.file)
    for number in range(KEPT_LOGS + 3):
        newest = _log_folder(found, f"manual__{number:03}")
    assert len(list(newest.parent.iterdir())) == KEPT_LOGS
    assert newest.is_dir()


def test_stopping_ends_a_service_and_what_it_has_started(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.5)
    pids = tmp_path / "pids"
    command = ["sh", "-c", f"setsid sleep 300 & echo $! > {pids}; sleep 300"]
    launched = Launched(
        _keep({"run": {"command": command, "log": str(tmp_path / "log")}}, {"PATH": "/usr/bin:/bin"}), pids, pids
    )
    end = time.monotonic() + 20
    while not (pids.exists() and pids.read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not launched.ended()
    launched.stop()
    assert launched.ended()
    assert subprocess.run(["ps", "-p", pids.read_text().strip()], capture_output=True, check=False).returncode
