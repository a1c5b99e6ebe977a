from __future__ import annotations

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset
from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import DataError, ParameterError
from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.operators.plan import foreign_upstream, is_planned, may_be_skipped, seen_outside
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.store import Store
from tests.dagfiles import serialized, tasks

DEFINITION = """
name: churn
parameters:
  c: {type: number, default: 1.0, minimum: 0}
steps:
  prepare:
    kind: command
    command: "cp ${{ inputs.raw }} ${{ outputs.clean }}"
    inputs: {raw: raw.txt}
    outputs: [clean]
  train:
    kind: command
    command: "echo ${{ parameters.c }} | cat ${{ inputs.data }} - > ${{ outputs.model }}"
    inputs: {data: "${{ steps.prepare.outputs.clean }}"}
    outputs: {model: {asset: "churn://model"}}
"""


class Churn:
    """The DAG of a pipeline, and its runs."""

    def __init__(self, airflow, folder, text=DEFINITION):
        self.airflow = airflow
        self.folder = folder
        (folder / "raw.txt").write_text("raw\n")
        self.define(text)

    def define(self, text):
        self.dag = make_dag(loads(text, self.folder))
        self.dag.fileloc = str(self.folder / "dag.py")

    def plan(self, run, **given):
        """Plan a run; return what it ended with, and which tasks it skipped."""
        try:
            return self.airflow.run(self.dag.get_task("plan"), run, **given), []
        except DownstreamTasksSkipped as skipped:
            return None, sorted(skipped.tasks)

    def run(self, run, **given):
        """Run every task that the plan does not skip, and return how each ended."""
        _, skipped = self.plan(run, **given)
        todo = [name for name in ("prepare", "train") if name not in skipped]
        return {name: self.airflow.run(self.dag.get_task(name), run, **given).outcome for name in todo}

    def returned(self, run):
        return self.airflow.xcoms["churn", run, "plan", -1]["return_value"]

    def counts(self, run):
        return {name: self.returned(run)[name] for name in ("reuse", "run", "depends")}


@pytest.fixture
def churn(airflow, tmp_path):
    return Churn(airflow, tmp_path)


def own(churn, task_id="mine", **given):
    return EmptyOperator(task_id=task_id, dag=churn.dag, **given)


def test_a_first_run_skips_nothing_and_decides_what_it_can(churn):
    ended, skipped = churn.plan("r1")
    assert skipped == []
    assert churn.counts("r1") == {"reuse": 0, "run": 1, "depends": 1}
    assert ended.said == (
        "1 to run, 1 decided later",
        "prepare: to run: it has not run before",
        "train: decided later: after prepare",
    )
    assert ended.task.decisions == {"prepare": "to run: it has not run before", "train": "decided later: after prepare"}


def test_a_second_run_skips_every_step_in_one_call(churn):
    assert churn.run("r1") == {"prepare": "ran", "train": "ran"}
    assert churn.plan("r2") == (None, ["prepare", "train"])
    assert churn.counts("r2") == {"reuse": 2, "run": 0, "depends": 0}


def test_its_xcom_says_only_counts_and_where_the_plan_lies(churn, tmp_path):
    churn.plan("r1")
    assert set(churn.returned("r1")) == {"reuse", "run", "depends", "plan"}
    store = Store.open(str(tmp_path / "store"))
    assert churn.returned("r1")["plan"].startswith(f"file://{tmp_path}/store/runs/churn/r1/")
    plan = RunPlan.from_json(runs.read_plan(store, "churn", "r1"))
    assert (set(plan.tasks), plan.parameters) == ({"prepare", "train"}, {"c": 1.0})


def test_only_what_depends_on_a_changed_parameter_is_left_to_run(churn):
    churn.run("r1")
    assert churn.run("r2", conf={"c": 0.5}) == {"train": "ran"}


@pytest.mark.parametrize(
    ("chosen", "outcomes"),
    [
        ([], {}),
        ("none", {}),
        (["train"], {"train": "ran"}),
        ("train", {"train": "ran"}),
        (["all"], {"prepare": "ran", "train": "ran"}),
    ],
)
def test_rule_11_steps_whose_outputs_are_to_be_regenerated_run(churn, chosen, outcomes):
    churn.run("r1")
    churn.dag.params.get_param("regenerate_outputs").schema.pop("type")
    assert churn.run("r2", conf={"regenerate_outputs": chosen}) == outcomes
    assert churn.run("r3") == {}


def test_a_step_to_regenerate_that_does_not_exist_is_refused_by_name(churn):
    del churn.dag.params.get_param("regenerate_outputs").schema["items"]
    with pytest.raises(ParameterError, match=r"names no step of this pipeline: 'trian'\. Give none, all, or a list of"):
        churn.plan("r1", conf={"regenerate_outputs": ["trian"]})


def test_an_unknown_parameter_is_refused_with_the_nearest(churn):
    with pytest.raises(ParameterError, match=r"churn has no parameter cc\. Did you mean c\?"):
        churn.plan("r1", conf={"cc": 1.0})


def test_params_that_somebody_added_to_the_dag_are_left_to_them(churn):
    churn.dag.params["mine"] = [1, 2]
    churn.plan("r1", conf={"mine": [3]})
    assert churn.counts("r1")["run"] == 1


def test_an_input_that_is_not_there_fails_the_plan_by_its_name(churn, tmp_path):
    (tmp_path / "raw.txt").unlink()
    with pytest.raises(DataError, match=r"there is no data at file://.*/raw\.txt"):
        churn.plan("r1")


def test_reused_outputs_are_left_for_tasks_of_the_users_own_that_may_read_them(churn, airflow):
    churn.run("r1")
    own(churn).set_upstream(churn.dag.get_task("train"))
    assert churn.plan("r2")[1] == ["prepare"]
    assert airflow.xcoms["churn", "r2", "prepare", -1] == airflow.xcoms["churn", "r1", "prepare", -1]


def test_reused_outputs_that_nobody_reads_are_not_written(churn, airflow):
    churn.run("r1")
    churn.plan("r2")
    assert {where[2] for where in airflow.xcoms if where[1] == "r2"} == {"plan"}


def test_assets_of_reused_steps_are_announced_where_the_content_differs(churn, airflow):
    churn.run("r1")
    churn.run("r2", conf={"c": 2.0})
    assert len(airflow.events) == 2
    context = airflow.context(churn.dag.get_task("plan"), "r3")
    executed = airflow.rendered(churn.dag.get_task("plan"), context)
    with pytest.raises(DownstreamTasksSkipped):
        executed.execute(context)
    assert executed.outlets == [Asset("churn://model")]
    assert list(context["outlet_events"][Asset("churn://model")].extra["outputs"]) == ["train.model"]


def test_assets_of_reused_steps_that_have_no_news_are_not_announced(churn, airflow):
    churn.run("r1")
    executed = airflow.rendered(
        churn.dag.get_task("plan"), context := airflow.context(churn.dag.get_task("plan"), "r2")
    )
    with pytest.raises(DownstreamTasksSkipped):
        executed.execute(context)
    assert executed.outlets == []


def test_a_pipeline_without_assets_has_no_outlet(churn):
    assert len(churn.dag.get_task("plan").outlets) == 1
    churn.define(DEFINITION.replace('{model: {asset: "churn://model"}}', "[model]"))
    assert churn.dag.get_task("plan").outlets == []


@pytest.mark.parametrize(
    "counts_on_it",
    [
        lambda churn, step: own(churn).set_upstream(step),
        lambda _, step: step.__setattr__("on_success_callback", [print]),
        lambda _, step: step.outlets.append(Asset("users://own")),
    ],
    ids=["task behind", "callback", "asset"],
)
def test_a_step_that_somebody_counts_on_to_succeed_is_not_skipped(churn, counts_on_it):
    step = churn.dag.get_task("train")
    assert may_be_skipped(step)
    counts_on_it(churn, step)
    assert not may_be_skipped(step)
    churn.run("r1")
    assert churn.plan("r2")[1] == ["prepare"]
    assert churn.airflow.run(step, "r2").outcome == "reused"


def test_a_step_behind_a_task_of_the_users_own_decides_in_its_turn(churn):
    own(churn).set_downstream(churn.dag.get_task("train"))
    churn.run("r1")
    ended, skipped = churn.plan("r2")
    assert (ended, skipped) == (None, ["prepare"])
    assert churn.counts("r2") == {"reuse": 1, "run": 0, "depends": 1}
    assert foreign_upstream(churn.dag.get_task("train")) == ("mine",)
    assert foreign_upstream(churn.dag.get_task("prepare")) == ()


def test_an_operator_of_ours_that_is_no_step_of_the_pipeline_is_the_users_own(churn):
    mine = CommandOperator(task_id="mine", command="true", dag=churn.dag)
    assert not is_planned(mine)
    assert is_planned(churn.dag.get_task("train"))
    assert not is_planned(churn.dag.get_task("plan"))
    churn.dag.get_task("train") >> mine
    assert not may_be_skipped(churn.dag.get_task("train"))
    churn.run("r1")
    assert churn.plan("r2")[1] == ["prepare"]


def test_what_is_seen_outside_is_all_that_comes_before_the_users_own_tasks(churn):
    assert seen_outside(churn.dag) == set()
    own(churn).set_upstream(churn.dag.get_task("train"))
    assert seen_outside(churn.dag) == {"plan", "prepare", "train"}


def test_the_digest_of_the_definition_is_among_what_airflow_keeps_and_an_edit_changes_it(churn):
    before = tasks(churn.dag)
    assert before["plan"]["definition"] == before["train"]["definition"]
    churn.define(DEFINITION)
    assert tasks(churn.dag) == before
    churn.define(DEFINITION.replace("minimum: 0", "minimum: 0, description: How much"))
    assert tasks(churn.dag)["plan"]["definition"] != before["plan"]["definition"]
    assert serialized(churn.dag)["tasks"]


def test_every_template_field_is_there(churn):
    plan = churn.dag.get_task("plan")
    assert [name for name in plan.template_fields if not hasattr(plan, name)] == []
    assert set(plan.template_fields_renderers) <= set(plan.template_fields)
