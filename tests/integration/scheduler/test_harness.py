from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import AirflowError
from tests.integration.harness import DagImportError

pytestmark = pytest.mark.scheduler

PLAIN = """
from airflow.sdk import DAG, Asset, BaseOperator, Param


class Say(BaseOperator):
    template_fields = ("word",)

    def __init__(self, *, word, **kwargs):
        super().__init__(**kwargs)
        self.word = word

    def execute(self, context):
        self.log.info("it says %s", self.word)
        if self.word == "no":
            raise ValueError("no is not a word")
        return {"word": self.word}


with DAG("NAME", schedule=None, params={"word": Param("yes", type="string")}):
    first = Say(task_id="first", word="{{ params.word }}", outlets=[Asset("NAME_asset")])
    first >> Say(task_id="second", word="fixed")
"""


@pytest.fixture(scope="module")
def plain(airflow):
    return airflow.write_dag("ordinary", PLAIN.replace("NAME", "ordinary"))[0]


@pytest.fixture(scope="module")
def done(airflow, plain):
    run_id, state = airflow.run(plain, {"word": "hello"})
    assert state == "success"
    return plain, run_id


def test_a_run_leaves_the_states_of_its_tasks(airflow, done):
    assert airflow.task_states(*done) == {"first": "success", "second": "success"}


def test_a_run_leaves_xcoms(airflow, done):
    assert airflow.xcom(*done, "first") == {"word": "hello"}
    assert airflow.xcoms(*done)["second"] == {"return_value"}


def test_a_run_leaves_logs(airflow, done):
    assert "it says hello" in airflow.log(*done, "first")


def test_a_run_leaves_rendered_fields(airflow, done):
    assert airflow.rendered(*done, "first") == {"word": "hello"}


def test_a_run_leaves_asset_events(airflow, done):
    events = airflow.asset_events(done[0])
    assert [(event["source_task_id"], event["name"]) for event in events] == [("first", "ordinary_asset")]


def test_a_sequential_task_costs_the_scheduler_a_fraction_of_a_second(airflow, done):
    assert airflow.seconds(*done) < 10


def test_a_cleared_task_runs_again(airflow, plain):
    run_id, _ = airflow.run(plain)
    airflow.clear(plain, run_id, ["second"])
    assert airflow.wait(plain, run_id) == "success"
    assert {task["task_id"]: task["try_number"] for task in airflow.tasks(plain, run_id)} == {"first": 1, "second": 2}
    assert "it says fixed" in airflow.log(plain, run_id, "second", 2)


def test_a_failed_task_fails_its_run_and_says_why(airflow, plain):
    run_id, state = airflow.run(plain, {"word": "no"})
    assert state == "failed"
    assert airflow.task_states(plain, run_id) == {"first": "failed", "second": "upstream_failed"}
    assert "ValueError: no is not a word" in airflow.log(plain, run_id, "first")


def test_a_value_that_its_parameter_refuses_starts_no_run(airflow, plain):
    with pytest.raises(AirflowError) as refused:
        airflow.trigger(plain, {"word": 1})
    assert refused.value.status == 400


def test_a_broken_dag_file_is_an_import_error_and_mending_it_removes_the_error(airflow):
    with pytest.raises(DagImportError, match="there is no such name"):
        airflow.write_dag("broken", "import airflow.sdk  # a DAG\nraise NameError('there is no such name')\n")
    assert "broken.py" in airflow.import_errors()
    assert airflow.write_dag("broken", PLAIN.replace("NAME", "broken")) == ["broken"]
    assert "broken.py" not in airflow.import_errors()


def test_an_edit_shows_within_seconds_and_makes_a_version_where_there_were_runs(airflow):
    text = PLAIN.replace("NAME", "edited")
    airflow.write_dag("edited", text)
    assert airflow.run("edited")[1] == "success"
    airflow.write_dag("edited", text.replace("fixed", "changed"))
    airflow.until(lambda: airflow.dag_versions("edited") == [1, 2], 30, "there is no second version")
    run_id, _ = airflow.run("edited")
    assert airflow.xcom("edited", run_id, "second") == {"word": "changed"}


def test_a_file_is_parsed_again_on_request(airflow):
    airflow.write("words.txt", "one")
    text = "from pathlib import Path\n" + PLAIN.replace("NAME", "reading").replace(
        '"fixed"', 'Path(__file__).with_name("words.txt").read_text()'
    )
    airflow.write_dag("reading", text)
    airflow.write("words.txt", "two")
    airflow.reparse("reading")
    run_id, _ = airflow.run("reading")
    assert airflow.xcom("reading", run_id, "second") == {"word": "two"}
