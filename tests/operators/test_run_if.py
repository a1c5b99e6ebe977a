"""A pipeline with a condition, from its plan to its closing table."""

from __future__ import annotations

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from airflow_mlpipe.cli.report import of_plan, of_run
from airflow_mlpipe.cli.show import closing_line, why
from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import ConditionError
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store

DEFINITION = """
name: gated
parameters:
  auc: 0.83
  least: 0.9
  note: first
steps:
  evaluate:
    kind: command
    command: 'echo "{\\"name\\": \\"auc\\", \\"value\\": $MLPIPE_PARAMETER_AUC}" > "$MLPIPE_STEP_DIRECTORY/metrics.jsonl"'
    parameters: {auc: "${{ parameters.auc }}"}
  train:
    kind: command
    command: "echo ${{ parameters.note }} > ${{ outputs.model }}"
    outputs: [model]
    run_if: ${{ steps.evaluate.metrics.auc > parameters.least }}
  deploy:
    kind: command
    command: "cat ${{ inputs.model }} > ${{ outputs.where }}"
    inputs: {model: "${{ steps.train.outputs.model }}"}
    outputs: [where]
  tell:
    kind: command
    command: "true"
    run_after: train
"""
ORDER = ("evaluate", "train", "deploy", "tell")
FALSE = "steps.evaluate.metrics.auc > parameters.least is false: auc is 0.83, least is 0.9"


class Gated:
    """The DAG of a pipeline with a condition, and its runs."""

    def __init__(self, airflow, folder):
        self.airflow = airflow
        self.store = Store.open(str(folder / "store"))
        self.dag = make_dag(loads(DEFINITION, folder))
        self.dag.fileloc = str(folder / "dag.py")

    def plan(self, run, **conf):
        try:
            self.airflow.run(self.dag.get_task("plan"), run, conf=conf)
        except DownstreamTasksSkipped as skipped:
            return sorted(skipped.tasks)
        return []

    def step(self, name, run, **conf):
        try:
            return self.airflow.run(self.dag.get_task(name), run, conf=conf).outcome
        except AirflowSkipException as skipped:
            return str(skipped)

    def run(self, run, **conf):
        """Run every task that the plan does not skip, and return how each ended."""
        skipped = self.plan(run, **conf)
        return {name: self.step(name, run, **conf) for name in ORDER if name not in skipped}

    def notes(self, run):
        return runs.read_notes(self.store, "gated", run)

    def kept(self, run):
        return RunPlan.from_json(runs.read_plan(self.store, "gated", run))

    def report(self, run):
        return of_run(self.kept(run), self.notes(run))


@pytest.fixture
def gated(airflow, tmp_path):
    return Gated(airflow, tmp_path)


def test_a_step_whose_condition_does_not_hold_is_skipped_and_its_note_says_why(gated):
    assert gated.run("r1") == {
        "evaluate": "ran",
        "train": f"not run: {FALSE}",
        "deploy": "not run: a step it takes data from was skipped and left no output",
        "tell": "ran",
    }
    note = gated.notes("r1")["train"]
    reason = {"component": "run_if", "what": FALSE, "old": None, "new": None}
    assert (note["outcome"], note["reasons"]) == ("not_run", [reason])
    assert gated.notes("r1")["deploy"]["outcome"] == "not_run"


def test_where_it_holds_the_step_runs_and_so_does_what_needs_it(gated):
    assert gated.run("r1", auc=0.95) == dict.fromkeys(ORDER, "ran")
    assert gated.plan("r2", auc=0.95) == sorted(ORDER)


def test_a_fully_reused_pipeline_costs_one_task_whether_the_condition_holds_or_not(gated):
    gated.run("r1")
    assert gated.run("r2") == {}
    plan = gated.kept("r2")
    assert {name: each.choice for name, each in plan.decisions.items()} == {
        "evaluate": "reuse",
        "train": "not_run",
        "deploy": "not_run",
        "tell": "reuse",
    }
    returned = gated.airflow.xcoms["gated", "r2", "plan", -1]["return_value"]
    assert {name: returned[name] for name in ("reuse", "run", "depends", "not_run")} == {
        "reuse": 2,
        "run": 0,
        "depends": 0,
        "not_run": 2,
    }


def test_another_threshold_decides_anew_from_the_same_metrics(gated):
    gated.run("r1")
    assert gated.run("r2", least=0.5) == {"train": "ran", "deploy": "ran", "tell": "reused"}
    assert gated.run("r3", least=0.6) == {}
    assert gated.kept("r3").decisions["train"].choice == "reuse"


def test_rule_3_the_threshold_does_not_count_for_the_fingerprint(gated):
    gated.run("r1", auc=0.95)
    gated.run("r2", auc=0.95, least=0.1)
    prints = [gated.kept(run).decisions["train"].fingerprint for run in ("r1", "r2")]
    assert gated.notes("r1")["train"]["fingerprint"] == prints[1]


def test_the_closing_table_says_that_a_run_succeeded_and_why_a_step_was_not_run(gated):
    gated.run("r1")
    report = gated.report("r1")
    assert report.state == "success"
    assert {step.step: why(step) for step in report.steps if step.outcome == "not_run"} == {
        "train": FALSE,
        "deploy": "a step it takes data from was skipped and left no output",
    }
    assert closing_line(report).startswith("gated succeeded: 2 ran, 2 not run")


def test_what_the_plan_does_not_run_is_in_its_table_and_in_the_closing_one(gated):
    gated.run("r1")
    gated.run("r2")
    planned = {step.step: (step.outcome, why(step)) for step in of_plan(gated.kept("r2")).steps}
    assert planned["train"] == ("not_run", FALSE)
    assert planned["deploy"] == ("not_run", "train was not run")
    report = gated.report("r2")
    assert (report.state, report.count("not_run"), report.count("reused")) == ("success", 2, 2)


def test_a_run_whose_steps_never_had_their_turn_has_failed(gated):
    gated.plan("r1")
    assert gated.report("r1").state == "failed"


def test_a_metric_that_nobody_logged_fails_the_step_and_says_which_there_are(gated, tmp_path):
    text = DEFINITION.replace("steps.evaluate.metrics.auc", "steps.evaluate.metrics.acu")
    gated.dag = make_dag(loads(text, tmp_path))
    gated.plan("r1")
    gated.step("evaluate", "r1")
    with pytest.raises(ConditionError, match="evaluate logged no metric 'acu'; it logged: auc"):
        gated.step("train", "r1")
    assert "train" not in gated.plan("r2")
    assert "evaluate logged no metric 'acu'" in why(
        next(s for s in of_plan(gated.kept("r2")).steps if s.step == "train")
    )


def test_a_step_that_is_cleared_alone_judges_again(gated):
    gated.run("r1")
    gated.plan("r2")
    assert gated.step("train", "r2") == f"not run: {FALSE}"


def test_a_run_that_is_planned_anew_forgets_what_was_not_run_before(gated):
    gated.run("r1")
    gated.plan("r1", least=0.5)
    assert {step.step: step.outcome for step in gated.report("r1").steps}["train"] == "not_run"
    assert gated.report("r1").state == "failed"
    assert gated.step("train", "r1", least=0.5) == "ran"
    assert gated.step("deploy", "r1", least=0.5) == "ran"


def test_outputs_of_an_earlier_plan_of_the_run_are_not_those_of_a_step_that_is_not_run_now(gated):
    gated.run("r1", least=0.5)
    gated.plan("r1", least=0.9)
    assert gated.step("deploy", "r1", least=0.9).startswith("not run: a step it takes data from")


def test_a_task_of_the_users_own_behind_a_step_that_is_not_run_does_not_make_it_run(gated):
    EmptyOperator(task_id="mine", dag=gated.dag).set_upstream(gated.dag.get_task("train"))
    gated.run("r1")
    assert {"train", "deploy"} <= set(gated.plan("r2"))
