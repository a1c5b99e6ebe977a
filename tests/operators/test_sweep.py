"""The three tasks of a sweep, in the DAG of a pipeline; Airflow is kept in memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import chain
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import CommandFailedError, DataChangedError, StepError, StepStoppedError
from airflow_mlpipe.operators.plan import foreign_upstream, seen_outside
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.sweep import chunks
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.store import Store
from tests.dagfiles import serialized, tasks

DEFINITION = """
name: churn
steps:
  prepare:
    kind: command
    command: "cp ${{ inputs.raw }} ${{ outputs.clean }}"
    inputs: {raw: raw.txt}
    outputs: [clean]
  tune:
    kind: command
    command: |
      [ ${{ parameters.c }} = 13 ] && exit 3
      echo "{\\"name\\": \\"auc\\", \\"value\\": ${{ parameters.c }}}" > ../metrics.jsonl
      echo ${{ parameters.c }} | cat ${{ inputs.data }} - > ${{ outputs.model }}
    inputs: {data: "${{ steps.prepare.outputs.clean }}"}
    outputs: {model: {asset: "churn://model"}}
    %s
    sweep:
      parameters: {c: [VALUES]}
      objective: {metric: auc, goal: maximize}
      max_concurrent: 2
      %s
  report:
    kind: command
    command: "cp ${{ inputs.model }} ${{ outputs.report }}"
    inputs: {model: "${{ steps.tune.outputs.model }}"}
    outputs: [report]
"""


class Churn:
    """The DAG of a pipeline with a sweep, and its runs."""

    def __init__(self, airflow, folder):
        self.airflow = airflow
        self.folder = folder
        (folder / "raw.txt").write_text("raw\n")
        self.define(1, 2)

    def define(self, *values, fields="", more=""):
        text = (DEFINITION % (fields, more)).replace("VALUES", ", ".join(map(str, values)))
        self.dag = make_dag(loads(text, self.folder))
        self.dag.fileloc = str(self.folder / "dag.py")

    @property
    def store(self):
        return Store.open(str(self.folder / "store"))

    def plan(self, run, **given):
        """Plan a run; return which tasks it skips."""
        try:
            self.airflow.run(self.dag.get_task("plan"), run, **given)
        except DownstreamTasksSkipped as skipped:
            for task_id in skipped.tasks:
                self.airflow.states["churn", run, task_id] = "skipped"
            return sorted(skipped.tasks)
        return []

    def task(self, task_id, run, **given):
        return self.airflow.run(self.dag.get_task(task_id), run, **given)

    def define_fragile(self, *values, fields="", more=""):
        """Let a trial fail as long as a file `broken<c>` is there, which counts for nothing."""
        text = (DEFINITION % (fields, more)).replace("VALUES", ", ".join(map(str, values)))
        text = text.replace("[ ${{ parameters.c }} = 13 ]", f"[ -e {self.folder}/broken${{{{ parameters.c }}}} ]")
        self.dag = make_dag(loads(text, self.folder))
        self.dag.fileloc = str(self.folder / "dag.py")

    def planned(self, run, **given):
        """Do all that comes before the trials."""
        self.plan(run, **given)
        self.task("prepare", run, **given)
        return self.task("tune.plan", run, **given).result

    def trials(self, run, **given):
        """Run what is missing; return the numbers of the trials, each as often as a task has run it."""
        missing = self.task("tune.plan", run, **given).result
        for index in range(len(missing)):
            with suppress(StepError):
                self.task("tune.trial", run, map_index=index, **given)
        return missing

    def run(self, run, **given):
        """Run all that the plan does not skip; return which trials ran, and how the sweep ended."""
        skipped = self.plan(run, **given)
        if "prepare" not in skipped:
            self.task("prepare", run, **given)
        if "tune" in skipped:
            return None, None
        return self.trials(run, **given), self.task("tune", run, **given)

    def model(self, run):
        return Path(urlsplit(self.airflow.xcoms["churn", run, "tune", -1]["model"]["uri"]).path).read_text()


@pytest.fixture
def churn(airflow, tmp_path):
    return Churn(airflow, tmp_path)


def test_a_first_run_runs_every_trial_and_takes_the_best(churn):
    missing, ended = churn.run("r1")
    assert (missing, ended.outcome) == ([[1], [2]], "ran")
    assert churn.model("r1") == "raw\n2\n"


def test_a_second_run_costs_no_task_a_trial(churn):
    churn.run("r1")
    churn.task("report", "r1")
    assert churn.plan("r2") == ["prepare", "report", "tune", "tune.plan", "tune.trial"]


def test_only_the_missing_trials_are_mapped(churn):
    churn.run("r1")
    churn.define(1, 3, 2, 4)
    missing, ended = churn.run("r2")
    assert missing == [[2], [4]]
    assert ended.outcome == "ran"
    assert churn.model("r2") == "raw\n4\n"


def test_the_plan_says_how_many_trials_are_known(churn):
    churn.run("r1")
    churn.define(1, 2, 3)
    assert churn.plan("r2") == ["prepare"]
    plan = runs.read_plan(churn.store, "churn", "r2")
    (tune,) = (step for step in plan["steps"] if step["step"] == "tune")
    assert [reason["what"] for reason in tune["reasons"]] == ["2 of 3 trials are known", "1 trial is new (c=3)"]


def test_a_sweep_of_known_trials_maps_over_nothing_and_is_put_together(churn):
    churn.define(1, 2, 3)
    churn.run("r1")
    churn.define(1, 2)
    missing, ended = churn.run("r2")
    assert missing == []
    assert ended.outcome == "ran"
    assert churn.model("r2") == "raw\n2\n"


def test_trials_beyond_what_airflow_maps_share_tasks(churn, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    churn.define(*range(1, 6))
    missing, ended = churn.run("r1")
    assert missing == [[1, 2, 3], [4, 5]]
    assert ended.outcome == "ran"
    assert churn.model("r1") == "raw\n5\n"


@pytest.mark.parametrize(
    ("count", "most", "lengths"), [(0, 3, []), (3, 3, [1, 1, 1]), (4, 3, [2, 2]), (7, 3, [3, 3, 1]), (1, 1024, [1])]
)
def test_no_more_lists_than_airflow_maps(count, most, lengths):
    found = chunks(list(range(count)), most)
    assert [len(chunk) for chunk in found] == lengths
    assert [number for chunk in found for number in chunk] == list(range(count))


def test_a_failed_trial_keeps_none_of_its_task_from_running(churn, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "1")
    churn.define(13, 2, 1)
    churn.plan("r1")
    churn.task("prepare", "r1")
    assert churn.task("tune.plan", "r1").result == [[1, 2, 3]]
    with pytest.raises(StepError, match="1 of 3 trials failed; the first: the command ended with exit code 3"):
        churn.task("tune.trial", "r1", map_index=0)
    assert {name: note["outcome"] for name, note in runs.read_notes(churn.store, "churn", "r1").items()} == {
        "prepare": "ran",
        "tune[1]": "failed",
        "tune[2]": "ran",
        "tune[3]": "ran",
    }


def test_a_failed_trial_fails_the_sweep_which_names_it(churn):
    churn.define(1, 13)
    with pytest.raises(StepError, match=r"trial 2 \(c=13\): the command ended with exit code 3"):
        churn.run("r1")


def test_a_trial_that_was_ended_is_named_and_never_run_by_the_sweep(churn):
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.task("tune.plan", "r1")
    churn.task("tune.trial", "r1", map_index=0)
    with pytest.raises(StepError, match=r"trial 2 \(c=2\): it has left no result: its task was ended"):
        churn.task("tune", "r1")


def test_a_trial_whose_task_is_killed_does_not_count_as_one_that_failed(churn, monkeypatch):
    churn.define(1, 2, more="max_failed: 1")
    churn.planned("r1")
    churn.task("tune.trial", "r1", map_index=0)
    begin = StepOperator._begin

    def killed(operator, site, spec):
        launcher = begin(operator, site, spec)
        operator.on_kill()
        return launcher

    with monkeypatch.context() as patched:
        patched.setattr(StepOperator, "_begin", killed)
        with pytest.raises(StepStoppedError):
            churn.task("tune.trial", "r1", map_index=1)
    with pytest.raises(StepError, match=r"1 of 2 trials did not come .* trial 2 \(c=2\): the step was stopped"):
        churn.task("tune", "r1")
    assert churn.run("r2")[0] == [[2]]
    assert churn.model("r2") == "raw\n2\n"


def test_a_try_that_is_killed_without_a_word_is_not_judged_by_an_earlier_one_that_failed(churn, monkeypatch):
    churn.define_fragile(1, 2, more="max_failed: 1")
    churn.planned("r1")
    churn.task("tune.trial", "r1", map_index=0)
    (churn.folder / "broken2").touch()
    with pytest.raises(CommandFailedError):
        churn.task("tune.trial", "r1", map_index=1)

    def dies(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(StepOperator, "_launch", dies)
        with pytest.raises(SystemExit):
            churn.task("tune.trial", "r1", map_index=1, try_number=2)
    with pytest.raises(StepError, match=r"1 of 2 trials did not come .* trial 2 \(c=2\): it has left no result"):
        churn.task("tune", "r1")


def test_a_cleared_trial_that_fails_does_not_stand_with_what_it_left_before_where_nothing_is_reused(churn):
    churn.define_fragile(1, 2, fields="allow_reuse: false")
    churn.run("r1")
    assert churn.model("r1") == "raw\n2\n"
    (churn.folder / "broken2").touch()
    with pytest.raises(CommandFailedError):
        churn.task("tune.trial", "r1", map_index=1, try_number=2)
    with pytest.raises(
        StepError, match=r"1 of 2 trials failed, .*: trial 2 \(c=2\): the command ended with exit code 3"
    ):
        churn.task("tune", "r1", try_number=2)


def test_where_such_a_trial_may_fail_the_best_of_the_others_is_taken_and_the_table_says_so(churn):
    churn.define_fragile(1, 2, fields="allow_reuse: false", more="max_failed: 1")
    churn.run("r1")
    (churn.folder / "broken2").touch()
    with pytest.raises(CommandFailedError):
        churn.task("tune.trial", "r1", map_index=1, try_number=2)
    churn.task("tune", "r1", try_number=2)
    assert churn.model("r1") == "raw\n1\n"
    (_, second) = churn.airflow.xcoms["churn", "r1", "tune", -1]["trials"]
    assert (second["outcome"], second["objective"]) == ("failed", None)
    assert second["error"].startswith("the command ended with exit code 3")


def test_a_cleared_trial_that_is_killed_does_not_stand_with_what_it_left_before_where_nothing_is_reused(
    churn, monkeypatch
):
    churn.define(1, 2, fields="allow_reuse: false", more="max_failed: 1")
    churn.run("r1")

    def dies(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(StepOperator, "_launch", dies)
        with pytest.raises(SystemExit):
            churn.task("tune.trial", "r1", map_index=1, try_number=2)
    with pytest.raises(StepError, match=r"1 of 2 trials did not come .* trial 2 \(c=2\): it has left no result"):
        churn.task("tune", "r1", try_number=2)


def test_a_cleared_trial_that_succeeds_again_is_taken_where_nothing_is_reused(churn):
    churn.define(1, 2, fields="allow_reuse: false")
    churn.run("r1")
    churn.task("tune.trial", "r1", map_index=1, try_number=2)
    churn.task("tune", "r1", try_number=2)
    assert churn.model("r1") == "raw\n2\n"


def test_the_table_of_a_reused_sweep_says_which_trials_failed_when_it_was_made(churn):
    churn.define(1, 13, more="max_failed: 1")
    churn.run("r1")
    EmptyOperator(task_id="gate", dag=churn.dag) >> churn.dag.get_task("tune")  # it decides in its turn
    churn.airflow.states["churn", "r2", "gate"] = "success"
    _, ended = churn.run("r2")
    assert ended.outcome == "reused"
    rows = churn.airflow.xcoms["churn", "r2", "tune", -1]["trials"]
    assert [(row["outcome"], row.get("error")) for row in rows] == [
        ("reused", None),
        ("failed", "it failed when the step was made"),
    ]


def test_the_table_of_the_trials_is_in_the_log_and_in_an_xcom(churn):
    churn.run("r1")
    churn.define(1, 3, 13, more="max_failed: 1")
    _, ended = churn.run("r2")
    assert churn.airflow.xcoms["churn", "r2", "tune", -1]["trials"] == [
        {"trial": 1, "parameters": {"c": 1}, "objective": 1.0, "outcome": "reused"},
        {"trial": 2, "parameters": {"c": 3}, "objective": 3.0, "outcome": "ran"},
        {
            "trial": 3,
            "parameters": {"c": 13},
            "objective": None,
            "outcome": "failed",
            "error": "the command ended with exit code 3; it printed nothing",
        },
    ]
    assert "trial 1: reused, objective 1, c=1" in ended.said
    assert "trial 3: failed, objective none, c=13: the command ended with exit code 3; it printed nothing" in ended.said


def test_trials_leave_no_xcoms_and_announce_nothing(churn):
    churn.run("r1")
    left = [values for (_, _, task, _), values in churn.airflow.xcoms.items() if task == "tune.trial"]
    assert left == [{"return_value": None}] * 2  # which Airflow does not keep
    assert [event.source_task_id for event in churn.airflow.events] == ["tune"]


def test_trials_that_are_reused_are_in_the_journal(churn):
    churn.run("r1")
    churn.define(1, 2, 3)
    churn.run("r2")
    entries = [entry for entry in journal.newest_first(churn.store, "churn") if entry.run == "r2"]
    outcomes = {use.step: use.outcome for entry in entries for use in entry.uses}
    assert outcomes == {"prepare": "reused", "tune[1]": "reused", "tune[2]": "reused", "tune[3]": "ran", "tune": "ran"}


def test_regenerate_outputs_runs_every_trial_once_a_run(churn):
    churn.run("r1")
    chosen = {"conf": {"regenerate_outputs": ["tune"]}}
    missing, ended = churn.run("r2", **chosen)
    assert (missing, ended.outcome) == ([[1], [2]], "ran")
    assert churn.task("tune.plan", "r2", **chosen).result == []


def test_allow_reuse_false_runs_every_trial(churn):
    churn.define(1, 2, fields="allow_reuse: false")
    churn.run("r1")
    missing, ended = churn.run("r2")
    assert (missing, ended.outcome) == ([[1], [2]], "ran")


def test_a_sweep_that_is_known_by_its_turn_is_reused_and_nothing_is_missing(churn):
    churn.run("r1")
    (churn.folder / "raw.txt").write_text("raw \n")
    churn.define(1, 2)
    assert churn.plan("r2") == []
    churn.airflow.xcoms.clear()
    (churn.folder / "raw.txt").write_text("raw\n")
    churn.plan("r3", conf={"regenerate_outputs": ["prepare"]})
    churn.task("prepare", "r3", conf={"regenerate_outputs": ["prepare"]})
    missing = churn.trials("r3")
    assert missing == []
    assert churn.task("tune", "r3").outcome == "reused"


def test_what_is_not_planned_does_not_run(churn):
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.airflow.states["churn", "r1", "tune.plan"] = "upstream_failed"
    with pytest.raises(AirflowFailException, match=r"not run: tune.plan is upstream_failed; see its log"):
        churn.task("tune", "r1")


def test_a_sweep_fails_where_a_task_that_the_user_put_before_it_failed(churn):
    EmptyOperator(task_id="gate", dag=churn.dag) >> churn.dag.get_task("tune")
    churn.airflow.states["churn", "r1", "gate"] = "failed"
    with pytest.raises(AirflowFailException, match=r"not run: gate, which comes before it, is failed"):
        churn.run("r1")
    churn.airflow.states["churn", "r1", "gate"] = "success"
    assert churn.task("tune", "r1").outcome == "ran"


def test_a_sweep_that_a_branch_led_past_is_not_run_and_one_that_is_known_is_reused(churn):
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.airflow.states["churn", "r1", "tune.plan"] = "skipped"
    with pytest.raises(AirflowSkipException, match=r"tune.plan was skipped; to run the step, clear that"):
        churn.task("tune", "r1")
    churn.run("r2")
    churn.plan("r3")
    assert churn.task("tune", "r3").outcome == "reused"


@pytest.mark.parametrize(("fields", "conf"), [("", {"regenerate_outputs": ["tune"]}), ("allow_reuse: false", {})])
def test_a_sweep_that_is_not_to_be_reused_and_whose_plan_was_skipped_is_not_run_and_says_so(churn, fields, conf):
    churn.define(1, 2, fields=fields)
    churn.run("r1")
    churn.plan("r2", conf=conf)
    churn.airflow.states["churn", "r2", "tune.plan"] = "skipped"
    with pytest.raises(
        AirflowSkipException,
        match=r"not run: tune.plan was skipped, and the step is not to be reused; to run the step, clear that",
    ):
        churn.task("tune", "r2", conf=conf)


def before_the_sweep(dag, wire):
    wire(EmptyOperator(task_id="gate", dag=dag), dag.get_task("tune"))
    kept = tasks(dag)
    return {
        name for name in ("tune.plan", "tune.trial", "tune") if "gate" in {*dag.get_task(name).upstream_task_ids}
    } & {*kept["gate"]["downstream_task_ids"]}


@pytest.mark.parametrize(
    "wire",
    [
        lambda gate, tune: gate >> tune,
        lambda gate, tune: tune << gate,
        lambda gate, tune: gate.set_downstream([tune]),
        lambda gate, tune: tune.set_upstream([gate]),
        lambda gate, tune: gate.output >> tune,
        lambda gate, tune: chain([gate], tune),
    ],
)
def test_a_task_that_the_user_puts_before_a_sweep_comes_before_all_its_tasks(churn, wire):
    assert before_the_sweep(churn.dag, wire) == {"tune.plan", "tune"}
    churn.dag.check_cycle()


def test_a_task_that_the_user_puts_after_a_sweep_comes_after_its_last_task(churn):
    churn.dag.get_task("tune") >> EmptyOperator(task_id="after", dag=churn.dag)
    assert churn.dag.get_task("after").upstream_task_ids == {"tune"}
    churn.dag.check_cycle()


def test_a_branch_that_does_not_lead_to_a_sweep_skips_what_plans_it(churn):
    branch = EmptyOperator(task_id="branch", dag=churn.dag)
    branch >> [churn.dag.get_task("tune"), EmptyOperator(task_id="other", dag=churn.dag)]
    assert branch.downstream_task_ids == {"tune.plan", "tune", "other"}


def test_a_trial_that_the_definition_has_no_more_names_the_task_to_clear(churn):
    churn.define(1, 2, 3)
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.task("tune.plan", "r1")
    churn.define(1, 2)
    with pytest.raises(
        StepError, match=r"there is no trial 3 any more, the definition has changed: clear the task tune.plan"
    ):
        churn.task("tune.trial", "r1", map_index=2)


def test_the_tasks_of_a_sweep_are_wired_and_limited(churn):
    churn.define(1, 2, fields="retries: 2\n    pool: gpus\n    timeout: 1 hour")
    kept = tasks(churn.dag)
    assert {
        name: sorted(kept[name].get("downstream_task_ids", ()))
        for name in ("prepare", "tune.plan", "tune.trial", "tune")
    } == {
        "prepare": ["tune.plan"],
        "tune.plan": ["tune", "tune.trial"],
        "tune.trial": ["tune"],
        "tune": ["report"],
    }
    trial = kept["tune.trial"]["partial_kwargs"]
    assert (trial["max_active_tis_per_dagrun"], trial["retries"], trial["pool"]) == (2, 2, "gpus")
    assert "pool" not in kept["tune"]
    assert kept["tune"]["trigger_rule"] == "all_done"


def test_airflow_keeps_the_digest_of_a_definition_and_not_the_definition(churn):
    kept = tasks(churn.dag)["tune.trial"]["partial_kwargs"]["planned"]
    assert kept == f"tune of {churn.dag.get_task('plan').pipeline.digest}"


def test_a_changed_sweep_is_a_new_version_of_the_dag(churn):
    before = serialized(churn.dag)
    churn.define(1, 2, 3)
    assert serialized(churn.dag) != before


def test_a_task_instance_is_shown_by_its_parameters(churn):
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.task("tune.plan", "r1")
    assert churn.task("tune.trial", "r1", map_index=1).task.title == "2: c=2"


def test_tasks_of_the_user_before_the_plan_or_the_sweep_make_it_decide_in_its_turn(churn):
    tune, helper = churn.dag.get_task("tune"), churn.dag.get_task("tune.plan")
    assert foreign_upstream(tune) == ()
    EmptyOperator(task_id="gate", dag=churn.dag) >> helper
    assert foreign_upstream(tune) == ("gate",)
    churn.plan("r1")
    plan = runs.read_plan(churn.store, "churn", "r1")
    (decided,) = (step for step in plan["steps"] if step["step"] == "tune")
    assert decided["depends_on"] == ["prepare", "gate"]


def test_the_tasks_of_a_sweep_are_no_tasks_of_the_user(churn):
    assert seen_outside(churn.dag) == set()


def test_rule_5_trials_of_other_data_than_the_sweep_has_now_make_no_record(churn):
    text = (DEFINITION % ("", "max_failed: 1")).replace("VALUES", "1, 2")
    churn.dag = make_dag(loads(text.replace('"${{ steps.prepare.outputs.clean }}"', "raw.txt"), churn.folder))
    churn.plan("r1")
    churn.task("tune.plan", "r1")
    churn.task("tune.trial", "r1", map_index=1)
    (churn.folder / "raw.txt").write_text("another\n")
    churn.task("tune.trial", "r1", map_index=0)
    with pytest.raises(
        DataChangedError, match=r"trial 2 \(c=2\) ran with other inputs .* changed meanwhile; clear the task tune.plan"
    ):
        churn.task("tune", "r1")


def test_a_lost_record_of_a_trial_in_between_is_named(churn):
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.trials("r1")
    for log in (churn.folder / "store/log").glob("*/*"):
        for record in fingerprint_log.Log.read(churn.store, log.name).records:
            if record.body["spec"]["step"] == "tune[1]":
                fingerprint_log.void(churn.store, log.name, record.number, "gone")
    with pytest.raises(StepError, match=r"trial 1 \(c=1\): it has left no result"):
        churn.task("tune", "r1")


def test_the_page_of_a_sweep_shows_the_command_of_all_trials_and_that_of_a_trial_its_values(churn):
    text = DEFINITION.replace("%s", "").replace("VALUES", "1, 2")
    head, _, rest = text.partition("    command: |\n")
    shell = 'echo "{\\"name\\": \\"auc\\", \\"value\\": $0}" > ../metrics.jsonl; echo $0 > $1'
    command = f"""    command: ["sh", "-c", '{shell}', "${{{{ parameters.c }}}}", "${{{{ outputs.model }}}}"]\n"""
    churn.dag = make_dag(loads(head + command + rest[rest.index("    inputs: {data") :], churn.folder))
    churn.dag.fileloc = str(churn.folder / "dag.py")
    churn.plan("r1")
    churn.task("prepare", "r1")
    churn.task("tune.plan", "r1")
    shown = [churn.task("tune.trial", "r1", map_index=index).task.command for index in (0, 1)]
    assert [command.split()[-3:] for command in shown] == [["1", "<output", "model>"], ["2", "<output", "model>"]]
    assert churn.task("tune", "r1").task.command.endswith("<parameter c> <output model>")
