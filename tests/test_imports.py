"""What an import brings along: every Airflow process pays for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("kubernetes", "docker", "buildkit", "boto3", "sklearn", "typer", "airflow_mlpipe.launchers.local")


def modules_after(statement: str, tmp_path) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    environment = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", HEAVY)
def test_parsing_dags_imports_no_client_of_a_compute_target(module, parsing):
    assert module not in parsing


@pytest.fixture(scope="module")
def parsing(tmp_path_factory):
    return modules_after("import airflow_mlpipe.dag_factory", tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    "package", ["definitions", "planning.plan", "resolving.planner", "runtime.supervise", "cli.running"]
)
def test_what_decides_does_not_import_airflow(package, tmp_path):
    assert "airflow" not in modules_after(f"import airflow_mlpipe.{package}", tmp_path)


def test_the_package_itself_imports_nothing_of_ours(tmp_path):
    ours = {name for name in modules_after("import airflow_mlpipe", tmp_path) if name.startswith("airflow_mlpipe")}
    assert ours == {"airflow_mlpipe"}
