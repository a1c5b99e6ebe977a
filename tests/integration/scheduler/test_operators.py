"""Operators in a hand-written DAG, on a real scheduler: what only its tasks, XComs and templates show."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(300)]

SECRET = "never-in-a-record"

DAG = """
from pathlib import Path

from airflow.sdk import DAG, Param, task, task_group
from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, PythonScriptOperator

HERE = Path(__file__).parent / "written_project"
SAYS = "echo ${{ parameters.x }} > ${{ outputs.said }}"

with DAG(
    "written",
    schedule=None,
    params={"word": Param("hello", type="string"), "c": Param(1.0, type="number"), "leak": Param(False, type="boolean")},
):

    @task
    def raw():
        return str(HERE / "raw.txt")

    @task
    def words():
        return [{"x": "{{ dag.dag_id }}"}, {"x": "plain"}]

    count = CommandOperator(
        task_id="count",
        command="echo {{ dag.dag_id }} {{ params.word }} ${{ parameters.word }} $(wc -w < ${{ inputs.raw }}) > ${{ outputs.lines }}",
        inputs={"raw": raw()},
        outputs=["lines"],
    )
    train = PythonScriptOperator(
        task_id="train",
        source_directory="written_project/src",
        script_name="train.py",
        arguments=["${{ inputs.lines }}", "${{ outputs.model }}", "--c=${{ parameters.c }}", "--dag={{ dag.dag_id }}"],
        inputs={"lines": count.output["lines"]},
        outputs={"model": {"asset": "written://model"}},
    )
    DataTransferOperator(
        task_id="land", source=train.output["model"], destination=str(HERE / "landed" / "{{ params.word | length }}")
    )
    CommandOperator.partial(
        task_id="each", command=SAYS + " && echo {{ dag.dag_id }}", outputs={"said": {"asset": "written://said"}}
    ).expand(parameters=[{"x": "one"}, {"x": "two"}])
    CommandOperator.partial(task_id="given", command=SAYS, outputs=["said"]).expand(parameters=words())

    @task_group
    def group(x):
        first = CommandOperator(task_id="first", command=SAYS, parameters={"x": x}, outputs=["said"])
        CommandOperator(
            task_id="second",
            command="cat ${{ inputs.x }} ${{ inputs.x }} > ${{ outputs.twice }}",
            inputs={"x": first.output["said"]},
            outputs=["twice"],
        )

    group.expand(x=["zero", "one"])
    CommandOperator(task_id="leak", command=["echo", "{{ conn.vault.password if params.leak else 'nothing' }}"])
"""

SCRIPT = """
import sys
source, target, *more = sys.argv[1:]
with open(target, "w") as file:
    print(open(source).read().strip(), *more, file=file)
"""

MAPPED = ("each", "given", "group.first", "group.second")
STEPS = {"count", "train", "land", "leak", *(f"{task}[{index}]" for task in MAPPED for index in (0, 1))}


class Written:
    """The DAG, its runs, and what they have left in the store."""

    def __init__(self, airflow):
        self.airflow = airflow
        airflow.airflow.post("/connections", {"connection_id": "vault", "conn_type": "generic", "password": SECRET})
        airflow.write("written_project/raw.txt", "three words here")
        airflow.write("written_project/src/train.py", SCRIPT)
        airflow.write_dag("written", DAG, timeout=90)

    def run(self, conf=None):
        return self.airflow.run("written", conf, timeout=150)

    def outcomes(self, run_id):
        """Return how each step of a run ended, by name; map indices stand in brackets."""
        return {step: note["outcome"] for step, note in self._notes(run_id).items()}

    def text(self, run_id, step, output):
        """Return the output of a step, which is one file."""
        return (self.airflow.airflow.home / "mlpipe" / self._notes(run_id)[step]["outputs"][output]["path"]).read_text()

    def _notes(self, run_id):
        return runs.read_notes(Store.open(str(self.airflow.airflow.home / "mlpipe")), "written", run_id)


@pytest.fixture(scope="module")
def written(airflow):
    return Written(airflow)


@pytest.fixture(scope="module")
def first(written):
    run_id, state = written.run()
    assert state == "success", written.airflow.task_states("written", run_id)
    return run_id


def test_every_map_index_is_a_step_of_its_own(written, first):
    assert written.outcomes(first) == dict.fromkeys(STEPS, "ran")
    states = written.airflow.task_states("written", first)
    assert {task for task in states if "[" in task} == {step for step in STEPS if "[" in step}


def test_templates_params_and_what_tasks_return_reach_the_command(written, first):
    assert written.text(first, "count", "lines") == "written hello hello 3\n"
    assert written.text(first, "train", "model") == "written hello hello 3 --c=1.0 --dag=written\n"
    landed = urlsplit(written.airflow.xcom("written", first, "land", "data")["uri"]).path
    assert landed.endswith("/written_project/landed/5")
    assert Path(landed).read_text() == written.text(first, "train", "model")


def test_what_a_mapped_task_gets_from_others_is_data_and_no_template(written, first):
    assert [written.text(first, f"each[{index}]", "said") for index in (0, 1)] == ["one\n", "two\n"]
    assert [written.text(first, f"given[{index}]", "said") for index in (0, 1)] == ["{{ dag.dag_id }}\n", "plain\n"]


def test_in_a_mapped_task_group_data_stays_with_its_index(written, first):
    assert [written.text(first, f"group.second[{index}]", "twice") for index in (0, 1)] == [
        "zero\nzero\n",
        "one\none\n",
    ]


def test_rendered_templates_show_the_command_with_its_values(written, first):
    fields = written.airflow.rendered("written", first, "train")
    assert "--c=1.0 --dag=written" in str(fields["command"])
    assert "fingerprint" in str(fields["components"])


def test_the_second_run_reuses_all_of_them_and_announces_nothing(written, first):
    before = len(written.airflow.asset_events("written"))
    assert before == 3  # of train, and of each index of each
    run_id, state = written.run()
    assert state == "success"
    assert written.outcomes(run_id) == dict.fromkeys(STEPS, "reused")
    assert written.airflow.xcom("written", run_id, "train", "model") == written.airflow.xcom(
        "written", first, "train", "model"
    )
    link = unquote(written.airflow.xcom("written", run_id, "train", "_link_MadeByLink"))
    assert link.endswith(f"/dags/written/runs/{first}/tasks/train")
    assert len(written.airflow.asset_events("written")) == before


@pytest.mark.usefixtures("first")
def test_neither_expressions_nor_secrets_come_in_by_templates(written):
    run_id, state = written.run({"word": "${{ parameters.c }}", "c": 2, "leak": True})
    assert state == "failed"
    states = written.airflow.task_states("written", run_id)
    assert (states["count"], states["train"], states["leak"]) == ("failed", "upstream_failed", "failed")
    assert "a value given at run time holds an expression" in written.airflow.log("written", run_id, "count")
    log = written.airflow.log("written", run_id, "leak")
    assert "what Airflow keeps secret" in log
    assert "environment={'secrets'" in log
    home = written.airflow.airflow.home
    kept = [*(home / "mlpipe").rglob("*.json"), *(home / "logs").rglob("*.log")]
    assert kept
    assert not [path for path in kept if SECRET in path.read_text(errors="replace")]


BAD = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator, PythonScriptOperator

with DAG("bad", schedule=None):
    PythonScriptOperator(
        task_id="train",
        source_directory="written_project/src",
        script_name="trian.py",
        arguments=["${{ parameters.no }}"],
        compute="gpu",
        inputs={"x": {"datastore": "lake", "path": "x"}},
    )
"""


@pytest.mark.usefixtures("written")
def test_a_bad_field_is_an_import_error_that_names_everything_that_is_wrong(airflow):
    airflow.write("bad.py", BAD)
    airflow.until(lambda: "bad.py" in airflow.import_errors(), 60, lambda: str(airflow.import_errors()))
    error = airflow.import_errors()["bad.py"]
    for said in (
        "4 problems:",
        "PythonScriptOperator(task_id='train').arguments[0]: names a parameter that neither the DAG's params nor",
        "PythonScriptOperator(task_id='train').compute: is not in the workspace (given: gpu). There is no ",
        "PythonScriptOperator(task_id='train').inputs.x.datastore: is not in the workspace (given: lake)",
        "PythonScriptOperator(task_id='train').script_name: is not there: ",
        "Did you mean train.py?",
    ):
        assert said in error
