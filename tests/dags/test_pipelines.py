from __future__ import annotations

import json

import pytest

from tests.dags.conftest import DAGS

FOLDERS = [DAGS / "pipelines", DAGS / "from_azureml"]

LIST = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag("DAGS")
print(json.dumps([{dag_id: sorted(dag.task_ids) for dag_id, dag in bag.dags.items()}, bag.import_errors]))
"""


@pytest.fixture(scope="module")
def found(examples):
    """What Airflow finds in the folder: the tasks of each DAG, and the import errors."""
    done = examples.python("-c", LIST.replace("DAGS", str(examples.dags)))
    return json.loads(done.stdout.splitlines()[-1])


def test_airflow_finds_every_example_without_an_error(found):
    dags, errors = found
    assert errors == {}
    definitions = {path.stem for folder in FOLDERS for path in folder.glob("*.yaml")} - {"mlpipe"}
    in_python = {"getting_started", "getting_started_in_sequence", "with_data_dependency_steps"}
    assert set(dags) == {"cache_maintenance", "existing_dag", "waiting_dag"} | definitions | in_python


def test_a_definition_becomes_a_task_plan_and_one_for_each_step(found):
    assert found[0]["digits"] == ["clean", "evaluate", "features", "plan", "register", "train", "transfer"]


def test_what_is_no_dag_file_is_not_taken_for_one():
    """Airflow reads every Python file that holds both words, and reports the time it takes as the file's."""
    places = {DAGS, DAGS / "from_azureml"}
    others = [path for path in DAGS.rglob("*.py") if path.parent not in places]
    assert others
    assert [path for path in others if all(word in path.read_text().lower() for word in ("dag", "airflow"))] == []
