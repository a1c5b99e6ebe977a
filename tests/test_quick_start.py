from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_mlpipe.airflow_home import ensure_database, make_home, process_environment

DAG_FILE = """
from airflow.sdk import DAG, BaseOperator, Variable

class Give(BaseOperator):
    def execute(self, context):
        context["task_state_store"].set("seen", 1)
        return {"word": Variable.get("word", default="none")}

class Take(BaseOperator):
    def execute(self, context):
        print("taken", context["ti"].xcom_pull(task_ids="give"))

with DAG("quick", schedule=None) as dag:
    Give(task_id="give") >> Take(task_id="take")
"""

RUN = """
import runpy, sys
from airflow_mlpipe.quick_start import quicken
quicken()
run = runpy.run_path(sys.argv[1])["dag"].test()
from airflow.api_fastapi.execution_api.versions import bundle
print("state", str(run.state), "versions", len(bundle.versions))
"""

CHANGED = """
import sys
import airflow.api_fastapi.execution_api.versions as versions
from airflow_mlpipe.quick_start import narrow_execution_api
before = versions.bundle
{change}
print("narrowed", narrow_execution_api(), "same", versions.bundle is before)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    (folder / "dags").mkdir()
    (folder / "dags" / "quick.py").write_text(DAG_FILE)
    return folder


@pytest.fixture(scope="module")
def environment(project):
    variables = make_home(project / "home", project / "dags")
    ensure_database(project / "home")
    return process_environment({**variables, "AIRFLOW_VAR_WORD": "hello"})


def python(code, environment, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_with_the_newest_api_only_does_all_that_tasks_do(project, environment):
    said = python(RUN, environment, project / "dags" / "quick.py")
    assert "taken {'word': 'hello'}" in said
    assert "state success versions 1" in said


@pytest.mark.parametrize(
    "change",
    [
        "import airflow.sdk.api.datamodels._generated as g; g.API_VERSION = '2099-01-01'",
        "import cadwyn.route_generation as r; del r._DELETED_ROUTE_TAG",
        "sys.modules['cadwyn'] = None",
    ],
)
def test_an_airflow_that_is_otherwise_is_left_alone(environment, change):
    assert "narrowed False same True" in python(CHANGED.format(change=change), environment)
