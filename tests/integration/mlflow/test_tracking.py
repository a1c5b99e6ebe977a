"""Runs are told of by the REST API; what plain MLflow logs in a script lands in the run of its step."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import CommandFailedError, EnvironmentBuildError, StepError, StepStoppedError
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.resolving.mlflow import MlflowServer
from airflow_mlpipe.resolving.tracking import Tracking
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests import mlflowserver
from tests.operators.conftest import airflow, nobody_elses_settings  # noqa: F401 -- fixtures

pytestmark = pytest.mark.mlflow

TRAIN = """
import mlflow
from mlpipe import Run

mlflow.log_metric("loss", 0.5)
mlflow.log_param("layers", 3)
mlflow.set_tag("by", "hand")
Run.get_context().log("auc", 0.83)
Run.get_context().log("loss", 0.5)
"""

DEFINITION = """
name: churn
parameters: {c: 1.0}
environment: {python: "PYTHON"}
steps:
  prepare:
    kind: command
    command: 'echo "{\\"name\\": \\"rows\\", \\"value\\": ${{ parameters.c }}}" > "$MLPIPE_STEP_DIRECTORY/metrics.jsonl"'
  train:
    kind: python_script
    script_name: train.py
    source_directory: code
    parameters: {c: "${{ parameters.c }}"}
    run_after: prepare
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    with mlflowserver.server(tmp_path_factory.mktemp("mlflow")) as served:
        yield served


class Tracked:
    """A pipeline in a workspace that names a tracking server."""

    def __init__(self, airflow, folder, address):  # noqa: F811
        self.airflow, self.folder, self.address = airflow, folder, address
        (folder / "mlpipe.yaml").write_text(f"mlflow: {{tracking_uri: '{address}', experiment: {folder.name}}}\n")
        (folder / "code").mkdir()
        (folder / "code" / "train.py").write_text(TRAIN)
        self.server = MlflowServer(address)
        self.define(DEFINITION.replace("PYTHON", mlflowserver.interpreter()))

    def define(self, text):
        self.dag = make_dag(loads(text, self.folder), workspace=self.folder / "mlpipe.yaml")
        self.dag.fileloc = str(self.folder / "dag.py")

    def run(self, run, **conf):
        """Run what the plan does not skip; return what was said."""
        skipped, said = [], []
        try:
            said += self.airflow.run(self.dag.get_task("plan"), run, conf=conf).said
        except DownstreamTasksSkipped as raised:
            skipped = raised.tasks
        for task in self.dag.task_dict:
            if task != "plan" and task not in skipped:
                said += self.airflow.run(self.dag.get_task(task), run, conf=conf).said
        return said

    def found(self, tag, value):
        return self.server.find(self.server.experiment(self.folder.name), tag, value)

    def parent(self, run):
        (parent,) = [each for each in self.found("mlpipe.kind", "run") if each.tags["mlpipe.run"] == run]
        return parent

    def children(self, run):
        found = self.found("mlflow.parentRunId", self.parent(run).id)
        return {each.tags["mlpipe.step"]: each for each in found}


@pytest.fixture
def tracked(airflow, tmp_path, address):  # noqa: F811
    made = Tracked(airflow, tmp_path, address)
    yield made
    made.server.close()


def test_each_run_has_one_of_its_own_and_one_below_it_for_each_step(tracked):
    tracked.run("r1")
    parent, children = tracked.parent("r1"), tracked.children("r1")
    assert (parent.status, parent.tags["mlflow.runName"], parent.tags["mlpipe.pipeline"]) == ("FINISHED", "r1", "churn")
    assert {name: (child.status, child.tags["mlpipe.outcome"]) for name, child in children.items()} == {
        "prepare": ("FINISHED", "ran"),
        "train": ("FINISHED", "ran"),
    }
    assert children["prepare"].metrics == {"rows": 1.0}
    assert children["train"].parameters["c"] == "1.0"
    note = runs.read_note(Store.open(str(tracked.folder / "store")), "churn", "r1", "train")
    assert children["train"].tags["mlpipe.fingerprint"] == note["fingerprint"]


def test_what_plain_mlflow_logs_in_a_script_lands_in_the_run_of_its_step(tracked):
    tracked.run("r1")
    train = tracked.children("r1")["train"]
    assert train.metrics == {"loss": 0.5, "auc": 0.83}
    assert (train.parameters["layers"], train.tags["by"]) == ("3", "hand")


def test_a_reused_step_has_a_run_that_leads_to_the_one_that_made_it(tracked):
    tracked.run("r1")
    tracked.run("r2")
    made, reused = tracked.children("r1")["train"], tracked.children("r2")["train"]
    assert reused.id != made.id
    assert (reused.status, reused.tags["mlpipe.outcome"], reused.metrics["auc"]) == ("FINISHED", "reused", 0.83)
    assert reused.tags["mlpipe.made_by.mlflow_run"] == made.id
    assert made.id in reused.tags["mlflow.note.content"]
    assert reused.tags["mlpipe.made_by.run"] == "r1"
    assert tracked.parent("r2").status == "FINISHED"


def test_rule_3_nothing_of_mlflow_counts_for_the_fingerprint_or_is_kept(tracked):
    tracked.run("r1")
    (tracked.folder / "mlpipe.yaml").write_text("{}\n")
    other = Tracked.__new__(Tracked)
    other.__dict__ |= tracked.__dict__
    from airflow_mlpipe.operators import here

    here._workspace.cache_clear()
    other.define(DEFINITION.replace("PYTHON", mlflowserver.interpreter()))
    assert other.run("r2") == []
    kept = [path.read_bytes() for path in (tracked.folder / "store").rglob("*.json")]
    assert kept
    assert not [text for text in kept if b"MLFLOW" in text or tracked.address.encode() in text]


def test_a_failed_step_is_a_failed_run_and_its_retry_goes_on_with_it(tracked):
    (tracked.folder / "code" / "train.py").write_text(TRAIN + "\nimport sys; sys.exit(3)\n")
    tracked.define(DEFINITION.replace("PYTHON", mlflowserver.interpreter()))
    with pytest.raises(CommandFailedError):
        tracked.run("r1")
    failed = tracked.children("r1")["train"]
    assert (failed.status, failed.tags["mlpipe.outcome"], tracked.parent("r1").status) == ("FAILED", "failed", "FAILED")
    (tracked.folder / "code" / "train.py").write_text(TRAIN)
    tracked.define(DEFINITION.replace("PYTHON", mlflowserver.interpreter()))
    tracked.run("r1")
    again = tracked.children("r1")["train"]
    assert (again.id, again.status, again.tags["mlpipe.outcome"]) == (failed.id, "FINISHED", "ran")
    assert tracked.parent("r1").status == "FINISHED"


def test_a_step_that_fails_before_its_command_begins_is_a_failed_run(tracked, monkeypatch):
    def refuses(*_):
        message = "there is no such environment"
        raise EnvironmentBuildError(message)

    monkeypatch.setattr(StepOperator, "_begin", refuses)
    with pytest.raises(EnvironmentBuildError):
        tracked.run("r1")
    child = tracked.children("r1")["prepare"]
    assert (child.status, child.tags["mlpipe.outcome"], tracked.parent("r1").status) == ("FAILED", "failed", "FAILED")


def test_a_step_whose_task_is_killed_is_a_killed_run(tracked, monkeypatch):
    begin = StepOperator._begin

    def killed(operator, site, spec):
        launcher = begin(operator, site, spec)
        operator.on_kill()
        return launcher

    monkeypatch.setattr(StepOperator, "_begin", killed)
    with pytest.raises(StepStoppedError):
        tracked.run("r1")
    child = tracked.children("r1")["prepare"]
    assert (child.status, child.tags["mlpipe.outcome"], tracked.parent("r1").status) == ("KILLED", "killed", "KILLED")


SWEPT = """
name: churn
steps:
  tune:
    kind: command
    command: |
      [ ${{ parameters.c }} = 13 ] && exit 3
      echo "{\\"name\\": \\"auc\\", \\"value\\": ${{ parameters.c }}}" > "$MLPIPE_STEP_DIRECTORY/metrics.jsonl"
      echo ${{ parameters.c }} > ${{ outputs.model }}
    outputs: [model]
    sweep:
      parameters: {c: [1, 13]}
      objective: {metric: auc, goal: maximize}
      max_failed: MOST
"""


def swept(tracked, most, *, begun=None):
    """Run a sweep of which a trial fails; another task may have begun that trial, and vanished."""
    tracked.define(SWEPT.replace("MOST", str(most)))
    tasks = tracked.dag.task_dict
    tracked.airflow.run(tasks["plan"], "r1")
    tracked.airflow.run(tasks["tune.plan"], "r1")
    tracked.airflow.run(tasks["tune.trial"], "r1", map_index=0)
    if begun is None:
        with pytest.raises(CommandFailedError):
            tracked.airflow.run(tasks["tune.trial"], "r1", map_index=1)
    else:
        begun()
    return tasks["tune"]


def test_a_trial_that_failed_is_a_failed_run_and_none_of_the_pipeline_where_the_sweep_succeeds_without_it(tracked):
    tracked.airflow.run(swept(tracked, 1), "r1")
    states = {name: child.status for name, child in tracked.children("r1").items()}
    assert states == {"tune[1]": "FINISHED", "tune[2]": "FAILED", "tune": "FINISHED"}
    assert tracked.parent("r1").status == "FINISHED"


def test_a_sweep_that_fails_is_a_failed_run(tracked):
    tune = swept(tracked, 0)
    with pytest.raises(StepError, match="1 of 2 trials failed"):
        tracked.airflow.run(tune, "r1")
    assert tracked.children("r1")["tune"].status == "FAILED"
    assert tracked.parent("r1").status == "FAILED"


def test_a_trial_whose_worker_vanished_is_a_killed_run_once_the_sweep_has_had_its_turn(tracked, monkeypatch):
    def begun():
        def vanishes(*_):
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(StepOperator, "_begin", vanishes)
            patched.setattr(Tracking, "failed", lambda *_, **__: None)
            with pytest.raises(SystemExit):
                tracked.airflow.run(tracked.dag.task_dict["tune.trial"], "r1", map_index=1)
        assert tracked.children("r1")["tune[2]"].status == "RUNNING"

    tune = swept(tracked, 1, begun=begun)
    with pytest.raises(StepError, match="did not come to an end of their own"):
        tracked.airflow.run(tune, "r1")
    states = {name: child.status for name, child in tracked.children("r1").items()}
    assert states == {"tune[1]": "FINISHED", "tune[2]": "KILLED", "tune": "FAILED"}


def test_a_step_that_declares_another_server_logs_there(tracked, tmp_path):
    text = DEFINITION.replace("PYTHON", mlflowserver.interpreter())
    other = (tmp_path / "mine").as_uri()
    variables = f'MLFLOW_TRACKING_URI: "{other}", MLFLOW_ALLOW_FILE_STORE: "true"'
    text = text.replace('{python: "', f'{{variables: {{{variables}}}, python: "')
    tracked.define(text)
    tracked.run("r1")
    train = tracked.children("r1")["train"]
    assert (train.metrics, train.status) == (
        {"auc": 0.83, "loss": 0.5},
        "FINISHED",
    )  # what `log` told, and no parameter
    assert "layers" not in train.parameters
    assert any((tmp_path / "mine").rglob("layers"))


def test_a_step_that_is_not_run_has_no_run(tracked):
    text = DEFINITION + '    run_if: "${{ steps.prepare.metrics.rows > 1 }}"\n'
    tracked.define(text.replace("PYTHON", mlflowserver.interpreter()))
    with pytest.raises(AirflowSkipException):
        tracked.run("r1")
    assert set(tracked.children("r1")) == {"prepare"}


def test_a_hand_written_dag_tells_too(tracked):
    from airflow.sdk import DAG

    dag = DAG("mine", schedule=None)
    dag.fileloc = str(tracked.folder / "dag.py")
    task = CommandOperator(
        task_id="count",
        command='echo "{\\"name\\": \\"n\\", \\"value\\": 7}" > "$MLPIPE_STEP_DIRECTORY/metrics.jsonl"',
        workspace=tracked.folder / "mlpipe.yaml",
        dag=dag,
    )
    tracked.airflow.run(task, "m1")
    assert tracked.children("m1")["count"].metrics == {"n": 7}


def test_two_processes_that_begin_a_run_at_once_have_one(tracked):
    from concurrent.futures import ThreadPoolExecutor

    from airflow_mlpipe.operators.here import open_site, workspace_at
    from airflow_mlpipe.resolving.tracking import Tracking

    site = open_site(workspace_at(tracked.folder / "mlpipe.yaml", tracked.folder))
    said = []

    def begin(number):
        tracking = Tracking.of(site, "race", "r1", said.append)
        with tracking._telling():
            return tracking._child(f"step{number}").id and tracking._the_parent().id

    with ThreadPoolExecutor(4) as pool:
        parents = list(pool.map(begin, range(8)))
    assert (said, len(set(parents))) == ([], 1)
    assert len(tracked.found("mlpipe.pipeline", "race")) == 9
