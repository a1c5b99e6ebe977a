"""Starts a run of a pipeline in the private Airflow, in processes that end with this one."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.airflow_home import ensure_database, free_port, make_home, process_environment
from airflow_mlpipe.cli.child import Order
from airflow_mlpipe.naming import path_segment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.cli.arguments import Moment
    from airflow_mlpipe.cli.project import Project

GRACE_SECONDS = 5.0
KEPT_LOGS = 20
"""How many runs of a pipeline keep their log."""

_DAG_FILE = '''"""Written by mlpipe: the DAG of one definition, for Airflow."""

from pathlib import Path

from airflow_mlpipe.cli.project import load
from airflow_mlpipe.dag_factory import make_dag

workspace = {workspace}
pipeline, _ = load({file}, {folder}, workspace)
dag = make_dag(pipeline, workspace=workspace)
'''


@dataclass(frozen=True)
class Launched:
    """A run under way: the process that keeps all others, and the files they write."""

    keeper: subprocess.Popen[bytes]
    log: Path
    events: Path

    def ended(self) -> bool:
        """Say whether all of it has ended."""
        return self.keeper.poll() is not None

    def stop(self) -> None:
        """End everything the run has started; it takes some seconds at most."""
        if self.keeper.stdin:
            self.keeper.stdin.close()
        self.keeper.wait()


def launch(project: Project, moment: Moment, conf: Mapping[str, Any], jobs: int) -> Launched:
    """Start a run.

    :param conf: the parameters and ``regenerate_outputs``, as the trigger form gives them.
    :param jobs: how many steps may run side by side; more than one needs an API server, which costs some seconds.
    :raises AirflowError: if the private folder, or the Airflow in it, cannot be used.
    """
    project.make_private()
    dag_file = _write_dag_file(project)
    port = free_port() if jobs > 1 else None
    variables = make_home(project.airflow_home, dag_file.parent, parallelism=jobs, port=port)
    ensure_database(project.airflow_home)
    folder = _log_folder(project, moment.run_id)
    order = Order(
        str(dag_file),
        moment.run_after.isoformat(),
        moment.logical_date.isoformat(),
        str(folder / "events.jsonl"),
        dict(conf),
        jobs > 1,
    )
    run = [sys.executable, "-m", "airflow_mlpipe.cli.child", order.to_json()]
    services = {}
    if jobs > 1:  # first, so that it ends last: what a run says at its end goes through it
        server = [sys.executable, "-m", "airflow", "api-server", "--apps", "execution"]
        services["api-server"] = {"command": server, "log": str(folder / "api-server.log")}
    services["run"] = {"command": run, "log": str(folder / "run.log")}
    environment = {**process_environment(variables), **project.variables(), "PYTHONUNBUFFERED": "1"}
    keeper = _keep(services, environment)
    return Launched(keeper, folder / "run.log", folder / "events.jsonl")


def _keep(services: Mapping[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "airflow_mlpipe.keeper", json.dumps({"services": services, "grace": GRACE_SECONDS})],
        stdin=subprocess.PIPE,  # closed by us, or by the system when we are gone
        stdout=subprocess.DEVNULL,
        env=dict(environment),
        start_new_session=True,  # a Ctrl-C in the terminal is for us alone
    )


def _write_dag_file(project: Project) -> Path:
    """Write the DAG file of a definition, in a folder of its own: Airflow reads all files of a folder."""
    digest = hashlib.sha256(str(project.file).encode()).hexdigest()[:8]
    folder = project.airflow_home / "dags" / f"{path_segment(project.pipeline.name)}-{digest}"
    file = folder / "pipeline.py"
    text = _DAG_FILE.format(
        workspace=_literal(project.workspace_file),
        file=_literal(project.file),
        folder=_literal(project.pipeline.folder.absolute()),
    )
    if not file.exists() or file.read_text("utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name("pipeline.new")
        fresh.write_text(text, "utf-8")
        fresh.replace(file)
    return file


def _literal(path: Path | None) -> str:
    return "None" if path is None else f"Path({str(path)!r})"


def _log_folder(project: Project, run: str) -> Path:
    """Make the folder for the logs of a run; the oldest of the pipeline's go."""
    parent = project.private / "logs" / path_segment(project.pipeline.name)
    folder = parent / path_segment(run)
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(path for path in parent.iterdir() if path.is_dir())[:-KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder
