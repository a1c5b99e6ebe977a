"""Metrics from the script that logs them to the XCom that other tasks read."""

from __future__ import annotations

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.operators import PythonScriptOperator
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store


def script(folder, text):
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "score.py").write_text("from mlpipe import Run\nrun = Run.get_context()\n" + text)


def operator(folder, **given):
    dag = DAG("d", schedule=None)
    dag.fileloc = str(folder / "dag.py")
    return PythonScriptOperator(task_id="score", script_name="score.py", source_directory="code", dag=dag, **given)


def test_metrics_are_in_the_note_and_in_one_xcom(airflow, tmp_path):
    script(tmp_path, 'run.log("auc", 0.5)\nrun.log("auc", 0.83)\nrun.log("rows", 3)\n')
    score = operator(tmp_path)
    for run, outcome in (("r1", "ran"), ("r2", "reused")):
        assert airflow.run(score, run).outcome == outcome
        assert airflow.xcoms["d", run, "score", -1]["metrics"] == {"auc": 0.83, "rows": 3}
        note = runs.read_note(Store.open(str(tmp_path / "store")), "d", run, "score")
        assert note["metrics"] == {"auc": 0.83, "rows": 3}


def test_an_output_of_that_name_keeps_its_xcom(airflow, tmp_path):
    script(tmp_path, 'run.log("auc", 0.83)\nrun.output("metrics").write_text("mine")\n')
    airflow.run(operator(tmp_path, outputs=["metrics"]))
    assert set(airflow.xcoms["d", "r1", "score", -1]["metrics"]) >= {"uri", "digest"}


def test_a_step_without_metrics_leaves_no_such_xcom(airflow, tmp_path):
    script(tmp_path, "")
    airflow.run(operator(tmp_path))
    assert "metrics" not in airflow.xcoms["d", "r1", "score", -1]


def test_the_plan_leaves_the_metrics_of_a_reused_step_to_a_task_of_the_users_own(airflow, tmp_path):
    script(tmp_path, 'run.log("auc", 0.83)\n')
    text = (
        "name: p\nsteps:\n  score: {kind: python_script, script_name: score.py, source_directory: code}\n"
        "  after: {kind: command, command: 'true', run_after: score}\n"
    )
    dag = make_dag(loads(text, tmp_path))
    dag.fileloc = str(tmp_path / "dag.py")
    EmptyOperator(task_id="mine", dag=dag).set_upstream(dag.get_task("after"))
    for task in ("plan", "score", "after"):
        airflow.run(dag.get_task(task), "r1")
    with pytest.raises(DownstreamTasksSkipped):
        airflow.run(dag.get_task("plan"), "r2")
    assert airflow.xcoms["p", "r2", "score", -1]["metrics"] == {"auc": 0.83}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('run.log("auc", float("nan"))', "metric 'auc' must be a finite number, not nan"),
        ('run.log("auc", float("inf"))', "metric 'auc' must be a finite number, not inf"),
        ('run.log("auc", "high")', "metric 'auc' must be a number, not str: 'high'"),
        ('run.log("auc", None)', "metric 'auc' must be a number, not NoneType"),
        ('run.log("auc", [0.1, 0.2])', "metric 'auc' must be a number, not list"),
        ('run.log("", 1)', "the name of a metric must not be empty"),
    ],
)
def test_what_is_no_number_fails_the_step_and_names_metric_value_and_line_of_the_script(airflow, tmp_path, text, words):
    script(tmp_path, f"\n\n{text}\n")
    with pytest.raises(StepError) as caught:
        airflow.run(operator(tmp_path))
    assert words in str(caught.value)
    assert 'score.py", line 5' in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"name": "auc", "value": NaN}', "its value is not finite"),
        ('{"name": "auc", "value": "0.9"}', "its value is not a number"),
        ('{"name": "auc"}', "its value is not a number"),
        ("auc=0.9", "it is not JSON"),
    ],
)
def test_a_line_by_hand_that_is_no_metric_fails_the_step_and_is_named(airflow, tmp_path, line, words):
    text = f"import os\nopen(os.environ['MLPIPE_STEP_DIRECTORY'] + '/metrics.jsonl', 'w').write('\\n' + {line!r})\n"
    script(tmp_path, text)
    with pytest.raises(StepError) as caught:
        airflow.run(operator(tmp_path))
    assert "metrics.jsonl, line 2: " in str(caught.value)
    assert words in str(caught.value)
    assert f"(given: {line})" in str(caught.value)
