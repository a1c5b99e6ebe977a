"""Pipelines on a real scheduler with LocalExecutor."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.scheduler.project import STEP, Project

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(300)]

ALL_REUSED = {"plan": "success", "prepare": "skipped", "train": "skipped", "report": "skipped"}
ALL_RAN = {"plan": "success", "prepare": "success", "train": "success", "report": "success"}


@pytest.fixture(scope="module")
def pipeline(airflow):
    return Project.create(airflow, "plain")


def test_the_second_run_reuses_every_step(airflow, pipeline):
    first, states = pipeline.run()
    assert states == ALL_RAN
    second, states = pipeline.run()
    assert states == ALL_REUSED
    counts = airflow.xcom("plain", second, "plan")
    assert {name: counts[name] for name in ("reuse", "run", "depends")} == {"reuse": 3, "run": 0, "depends": 0}
    assert f"train: reused: nothing it depends on has changed since run {first}" in airflow.log("plain", second, "plan")


def test_a_changed_parameter_by_rest_runs_what_depends_on_it_and_says_why(airflow, pipeline):
    pipeline.run()
    run_id, states = pipeline.run({"c": 0.5})
    assert states == {"plan": "success", "prepare": "skipped", "train": "success", "report": "success"}
    assert "runs: parameter c: 1.0 -> 0.5" in airflow.log("plain", run_id, "train")


def test_rule_2_the_form_sends_1_for_a_number_that_is_1_0(pipeline):
    pipeline.run({"c": 1.0})
    _, states = pipeline.run({"c": 1})
    assert states == ALL_REUSED


@pytest.mark.usefixtures("pipeline")
def test_a_value_out_of_bounds_is_refused_by_the_rest_api(airflow):
    with pytest.raises(Exception, match=r"400|minimum"):
        airflow.trigger("plain", {"c": -1})


@pytest.mark.usefixtures("pipeline")
def test_an_unknown_parameter_fails_the_plan_and_names_the_nearest(airflow):
    run_id, state = airflow.run("plain", {"cc": 1.0})
    assert state == "failed"
    assert "no parameter cc" in airflow.log("plain", run_id, "plan")


def test_regenerate_outputs_runs_the_chosen_step_only(pipeline):
    pipeline.run()
    _, states = pipeline.run({"regenerate_outputs": ["train"]})
    assert states == {"plan": "success", "prepare": "skipped", "train": "success", "report": "success"}
    _, states = pipeline.run()
    assert states == ALL_REUSED


def test_early_cutoff_what_reads_the_same_bytes_is_reused_in_its_turn(airflow, pipeline):
    pipeline.run()
    pipeline.write_step("train", STEP + "# a comment\n")
    run_id, states = pipeline.run()
    assert states == {"plan": "success", "prepare": "skipped", "train": "success", "report": "success"}
    assert "runs: step.py changed" in airflow.log("plain", run_id, "train")
    assert "reused: nothing it depends on has changed" in airflow.log("plain", run_id, "report")


def test_clearing_a_reused_step_reuses_it_and_leaves_the_others(airflow, pipeline):
    pipeline.run()
    run_id, _ = pipeline.run()
    airflow.clear("plain", run_id, ["train"])
    assert airflow.wait("plain", run_id) == "success"
    assert airflow.task_states("plain", run_id) == {**ALL_REUSED, "train": "success"}
    assert "reused: nothing" in airflow.log("plain", run_id, "train")


def test_clearing_a_reused_step_whose_output_is_lost_runs_just_it(airflow, pipeline):
    pipeline.run()
    run_id, _ = pipeline.run()
    airflow.clear("plain", run_id, ["train"])
    airflow.wait("plain", run_id)
    model = Path(urlsplit(airflow.xcom("plain", run_id, "train", "model")["uri"]).path)
    model.unlink()
    airflow.clear("plain", run_id, ["train"])
    assert airflow.wait("plain", run_id) == "success"
    log = airflow.log("plain", run_id, "train", 2)
    assert "runs: output model of the earlier run: it is gone" in log
    assert airflow.task_states("plain", run_id) == {**ALL_REUSED, "train": "success"}
    assert model.parent.parent.exists()


def test_rendered_templates_show_what_the_step_was_made_of(airflow, pipeline):
    run_id, _ = pipeline.run({"regenerate_outputs": ["all"]})
    fields = airflow.rendered("plain", run_id, "train")
    assert "step.py" in str(fields["command"])
    assert "fingerprint" in str(fields["components"])
    assert "digest" in str(fields["outputs"])


def test_a_scheduled_pipeline_runs_by_itself(airflow):
    project = Project.create(airflow, "scheduled", head='schedule: "@daily"')

    def runs():
        found = airflow.airflow.get("/dags/scheduled/dagRuns")["dag_runs"]
        return [run for run in found if run["run_type"] == "scheduled"]

    airflow.until(runs, 60, "no scheduled run")
    run_id = runs()[0]["dag_run_id"]
    assert airflow.wait("scheduled", run_id) == "success"
    assert airflow.task_states("scheduled", run_id) == ALL_RAN
    assert project.run()[1] == ALL_REUSED


def test_a_users_own_task_behind_a_reused_step_runs(airflow):
    more = """
    from airflow.providers.standard.operators.bash import BashOperator

    if dag := globals().get("mlpipe_dag_attached"):
        done = BashOperator(
            task_id="notify",
            bash_command="cat {{ ti.xcom_pull(task_ids='train', key='model')['uri'][7:] }}",
            dag=dag,
        )
        dag.get_task("train") >> done
    """
    project = Project.create(airflow, "attached", more=more)
    assert project.run()[1] == {**ALL_RAN, "notify": "success"}
    run_id, states = project.run()
    assert states == {**ALL_REUSED, "train": "success", "notify": "success"}
    assert "attached prepare 1.0 train 1.0" in airflow.log("attached", run_id, "notify")


def test_a_branch_not_taken_skips_its_steps_and_what_needs_them(airflow):
    more = """
    from airflow.providers.standard.operators.python import BranchPythonOperator

    if dag := globals().get("mlpipe_dag_branching"):
        def choose(params):
            return "prepare" if params["c"] < 5 else "nothing"

        choice = BranchPythonOperator(task_id="choice", python_callable=choose, dag=dag)
        from airflow.providers.standard.operators.empty import EmptyOperator

        choice >> [dag.get_task("prepare"), EmptyOperator(task_id="nothing", dag=dag)]
    """
    project = Project.create(airflow, "branching", more=more)
    not_taken = {**ALL_REUSED, "choice": "success", "nothing": "success"}
    assert project.run({"c": 9})[1] == not_taken
    taken = {**ALL_RAN, "choice": "success", "nothing": "skipped"}
    assert project.run()[1] == taken
    assert project.run({"c": 9})[1] == not_taken
    run_id, states = project.run()
    assert states == taken
    assert "reused: nothing" in airflow.log("branching", run_id, "train")


def test_an_asset_scheduled_dag_runs_when_the_content_differs_and_not_when_it_was_reused(airflow):
    more = """
    from airflow.sdk import Asset, DAG
    from airflow.providers.standard.operators.empty import EmptyOperator

    with DAG("asset_consumer", schedule=Asset("mlpipe://assets/model")):
        EmptyOperator(task_id="deploy")
    """
    project = Project.create(airflow, "assets", output='asset: "mlpipe://assets/model"', more=more)

    def consumed():
        return len(airflow.airflow.get("/dags/asset_consumer/dagRuns")["dag_runs"])

    project.run()
    airflow.until(lambda: consumed() == 1, 60, "the consumer did not run")
    project.run()
    project.run({"c": 2.0})
    airflow.until(lambda: consumed() == 2, 60, "the consumer did not run again")
    project.run({"c": 2.0})
    project.run({"c": 1.0})
    airflow.until(lambda: consumed() == 3, 60, "what plan reused was not announced")
    time.sleep(3)
    assert consumed() == 3
    assert len(airflow.asset_events("assets")) == 3


def test_a_step_with_a_success_callback_is_never_skipped(airflow):
    airflow.write("callbacks_of_test.py", "def done(context):\n    print('CALLED BACK', context['ti'].task_id)\n")
    project = Project.create(airflow, "called", train="on_success: callbacks_of_test.done")
    project.run()
    run_id, states = project.run()
    assert states == {**ALL_REUSED, "train": "success"}
    assert "CALLED BACK train" in airflow.log("called", run_id, "train")


def test_a_broken_definition_is_an_import_error_of_its_own(airflow):
    project = Project.create(airflow, "healthy")
    project.write("broken.yaml", "name: broken\nsteps:\n  a:\n    kind: comand\n    command: ls\n")
    airflow.reparse("healthy")
    airflow.until(
        lambda: "healthy_project/broken.yaml" in airflow.import_errors(), 60, lambda: str(airflow.import_errors())
    )
    error = airflow.import_errors()["healthy_project/broken.yaml"]
    assert "broken.yaml:4:11" in error
    assert "Did you mean command?" in error
    assert project.run()[1] == ALL_RAN


def test_an_edited_definition_makes_a_new_dag_version(airflow):
    project = Project.create(airflow, "versioned")
    project.run()
    assert airflow.dag_versions("versioned") == [1]
    project.define(head="description: Another one")
    airflow.reparse("versioned")
    airflow.until(
        lambda: airflow.dag_versions("versioned") == [1, 2], 60, lambda: str(airflow.dag_versions("versioned"))
    )


SLOW = (
    STEP
    + """
marker = pathlib.Path(os.environ["MARKER"])
if not marker.exists():
    marker.write_text(f"{os.getpid()}")
    time.sleep(120)
"""
)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_rule_6_a_killed_worker_leaves_nothing_and_the_retry_completes(airflow, tmp_path):
    marker = tmp_path / "marker"
    train = f"retries: 1\n    retry_delay: 1 second\n    environment: {{variables: {{MARKER: {marker}}}}}"
    project = Project.create(airflow, "killed", train=train)
    project.write_step("train", SLOW)
    run_id = airflow.trigger("killed")
    airflow.until(lambda: marker.exists() and marker.read_text(), 60, lambda: project.logs(run_id))
    script = int(marker.read_text())
    supervisor = parent(script)
    worker = parent(supervisor)
    os.kill(worker, signal.SIGKILL)
    airflow.until(lambda: gone(script) and gone(supervisor), 20, "the step outlived its worker")
    assert airflow.wait("killed", run_id, 120) == "success"
    assert airflow.task_states("killed", run_id) == ALL_RAN
    model = Path(urlsplit(airflow.xcom("killed", run_id, "train", "model")["uri"]).path)
    assert model.read_text() == "killed prepare 1.0 train 1.0\n"
    assert project.run()[1] == ALL_REUSED


def test_on_kill_ends_the_whole_process_tree(airflow, tmp_path):
    marker = tmp_path / "marker"
    train = f"environment: {{variables: {{MARKER: {marker}}}}}"
    project = Project.create(airflow, "stopped", train=train)
    project.write_step("train", SLOW)
    run_id = airflow.trigger("stopped")
    airflow.until(lambda: marker.exists() and marker.read_text(), 60, lambda: project.logs(run_id))
    script = int(marker.read_text())
    supervisor = parent(script)
    airflow.set_state("stopped", run_id, "train", "failed")
    airflow.until(lambda: gone(script) and gone(supervisor), 60, "the step went on")
    assert airflow.wait("stopped", run_id, 60) == "failed"
