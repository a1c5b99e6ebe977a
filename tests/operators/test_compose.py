"""Sweeps whose trials run in one process: real commands, one life for each."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_mlpipe.exceptions import CommandFailedError, StepError, StepStoppedError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.planning.bind import components, input_from
from airflow_mlpipe.planning.plan import Task
from airflow_mlpipe.planning.trials import trials_of
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner
from airflow_mlpipe.runtime.composite import SweepSpec
from airflow_mlpipe.runtime.protocol import InputSpec, OutputSpec, Reference, StepSpec
from airflow_mlpipe.store import journal, pins, runs
from airflow_mlpipe.store import log as fingerprint_log

C, MODEL = Reference("parameter", "c"), Reference("output", "model")
TRAIN = """
[ $1 = 13 ] && { echo unlucky; exit 3; }
[ $1 = 7 ] || echo "{\\"name\\": \\"auc\\", \\"value\\": $(( 100 - ($1 - 5) * ($1 - 5) ))}" > metrics.jsonl
mkdir "$0"; echo "model of $1" > "$0/model"
"""


@pytest.fixture
def lives(world):
    """Return a function that lives a task of a run, with a real launcher."""

    def launch(spec, fingerprint, claim):
        world.launched.append(spec.step)
        site = world.site()
        launcher = LocalLauncher(site.store, site.open_uri, lambda _: sys.executable)
        return launcher.launch(spec, fingerprint, claim, {}, world.said.append)

    def live(task, run="r1", **changed):
        return replace(world.life(run, launch=launch, step=task.spec.step), **changed).live(task)

    return live


def sweep(*values, goal="maximize", max_failed=0, step="tune", **switches):
    trials = tuple({"c": value} for value in values)
    # the launcher runs the command in code/, beside which metrics.jsonl lies
    command = (("/bin/sh",), ("-c",), ("cd ..;" + TRAIN,), (MODEL,), (C,))
    spec = StepSpec("p", step, "command", command, outputs={"model": OutputSpec()})
    return Task(replace(spec, sweep=SweepSpec(trials, "auc", goal, max_failed)), **switches)


def model(outcome, world):
    return Path(world.site().store.full(outcome.outputs["model"].path)) / "model"


def test_the_best_trial_is_the_sweep(world, lives):
    outcome = lives(sweep(1, 4, 9))
    assert world.launched == ["tune[1]", "tune[2]", "tune[3]"]
    assert outcome.metrics == {"auc": 99}
    assert model(outcome, world).read_text() == "model of 4\n"
    assert "the best of 3 trials is trial 2 (c=4): auc = 99" in world.said


def test_the_least_may_be_the_best_and_of_equals_the_first(world, lives):
    assert model(lives(sweep(4, 9, 1, goal="minimize")), world).read_text() == "model of 9\n"
    assert model(lives(sweep(2, 4, 6)), world).read_text() == "model of 4\n"


def test_a_sweep_is_reused_as_one_step(world, lives):
    first = lives(sweep(1, 4))
    world.launched.clear()
    second = lives(sweep(1, 4), "r2")
    assert (second.result, second.number, second.outputs) == ("reused", first.number, first.outputs)
    assert world.launched == []


def test_each_trial_is_reused_by_itself(world, lives):
    lives(sweep(1, 4))
    world.launched.clear()
    outcome = lives(sweep(1, 4, 5), "r2")
    assert world.launched == ["tune[3]"]
    assert model(outcome, world).read_text() == "model of 5\n"


def test_a_plain_step_reuses_a_trial(world, lives):
    task = sweep(1, 4)
    lives(task)
    world.launched.clear()
    plain = replace(trials_of(task.spec)[1].spec, step="train", pipeline="p")
    assert lives(Task(plain), "r2").result == "reused"
    assert world.launched == []


def test_the_seconds_of_a_sweep_are_those_of_all_its_trials(lives):
    outcome = lives(sweep(1, 4))
    trials = [lives(Task(trial.spec), "r2") for trial in trials_of(sweep(1, 4).spec)]
    assert outcome.seconds == pytest.approx(sum(each.seconds for each in trials))


def test_a_trial_that_fails_fails_the_sweep_which_names_it(world, lives):
    with pytest.raises(StepError, match=r"1 of 3 trials failed, and none may \(sweep.max_failed\): ") as caught:
        lives(sweep(1, 13, 4))
    assert "trial 2 (c=13): the command ended with exit code 3" in str(caught.value)
    assert world.launched == ["tune[1]", "tune[2]", "tune[3]"]
    assert runs.read_note(world.site().store, "p", "r1", "tune")["outcome"] == "failed"


def test_as_many_trials_may_fail_as_the_sweep_says(world, lives):
    assert model(lives(sweep(1, 13, 4, max_failed=1)), world).read_text() == "model of 4\n"


def test_a_sweep_of_which_every_trial_fails_fails_whatever_it_allows(lives):
    with pytest.raises(StepError, match="all trials failed"):
        lives(sweep(13, max_failed=1))


def test_an_objective_that_a_trial_did_not_log_names_the_trial(lives):
    with pytest.raises(StepError, match=r"trial 2 \(c=7\): it logged no metric 'auc', which is the objective"):
        lives(sweep(4, 7))


def test_a_failed_sweep_that_is_lived_again_runs_only_what_failed(world, lives):
    with pytest.raises(StepError):
        lives(sweep(1, 13))
    world.launched.clear()
    with pytest.raises(StepError):
        lives(sweep(1, 13))
    assert world.launched == ["tune[2]"]


def test_where_trials_have_tasks_of_their_own_none_runs_here(world, lives):
    with pytest.raises(StepError, match="it has left no result: its task was ended, or did not have its turn"):
        lives(sweep(1), trials_here=False)
    assert world.launched == []


def ending_with(world, error, *values):
    """Return what launches trials, of which some end with an error."""

    def launch(spec, fingerprint, claim):
        world.launched.append(spec.step)
        if spec.parameters["c"] in values:
            raise error
        return world.writes(f"{spec.parameters['c']}", metrics={"auc": spec.parameters["c"]})(spec, fingerprint, claim)

    return launch


@pytest.mark.parametrize(
    "error", [StepStoppedError("its task was killed"), StepError("no engine answers"), StepError("no such image")]
)
def test_a_trial_that_did_not_fail_by_itself_makes_no_record_of_the_others_however_many_may_fail(world, lives, error):
    task = sweep(1, 2, 3, max_failed=2)
    with pytest.raises(StepError, match=r"1 of 3 trials did not come to an end of their own") as caught:
        lives(task, launch=ending_with(world, error, 2))
    assert f"trial 2 (c=2): {error}" in str(caught.value)
    assert "Clear the task tune.trial, or run the pipeline again" in str(caught.value)
    assert not fingerprint_log.Log.read(world.site().store, fingerprint(components(task.spec))).records
    world.launched.clear()
    assert lives(task, "r2", launch=ending_with(world, error)).metrics == {"auc": 3}
    assert world.launched == ["tune[2]"] * 2  # the launcher of the test counts it, and what writes its output


def test_a_trial_that_has_left_nothing_makes_no_record_of_the_others_however_many_may_fail(world, lives):
    task = sweep(1, 4, max_failed=1)
    lives(replace(task, spec=trials_of(task.spec)[0].spec))
    with pytest.raises(StepError, match=r"1 of 2 trials did not come .*: trial 2 \(c=4\): it has left no result"):
        lives(task, trials_here=False)
    assert not fingerprint_log.Log.read(world.site().store, fingerprint(components(task.spec))).records


def test_more_trials_that_failed_by_themselves_than_may_are_named_before_those_that_were_killed(world, lives):
    def launch(spec, fingerprint, claim):
        c = spec.parameters["c"]
        if c > 1:
            raise StepStoppedError("killed") if c == 2 else CommandFailedError("exit code 3")
        return world.writes("1", metrics={"auc": 1.0})(spec, fingerprint, claim)

    with pytest.raises(StepError, match=r"1 of 3 trials failed, and none may \(sweep.max_failed\): trial 3") as caught:
        lives(sweep(1, 2, 3), launch=launch)
    assert "killed" not in str(caught.value)


def test_a_trial_that_took_too_long_has_failed_by_itself(world, lives):
    trial = trials_of(sweep(1, 4, max_failed=1).spec)[0]
    with pytest.raises(AirflowTaskTimeout):
        lives(Task(trial.spec), launch=ending_with(world, AirflowTaskTimeout("it ran for longer"), 1))
    lives(Task(trials_of(sweep(1, 4).spec)[1].spec))
    assert lives(sweep(1, 4, max_failed=1), trials_here=False).metrics == {"auc": 99}


def test_a_trial_that_waited_for_one_that_failed_by_itself_has_failed_by_itself(world):
    store, trial = world.site().store, trials_of(sweep(1).spec)[0]
    from airflow_mlpipe.operators.claims import Turn, Wait

    for own, kind in ((True, CommandFailedError), (False, StepError)):
        holder = fingerprint_log.claim(store, trial.fingerprint, world.life("r1").owner)
        fingerprint_log.release(store, holder, "exit code 7", own=own)
        turn = Turn(store, trial.fingerprint, world.life("r2").owner, print, before=Wait((holder.id,)))
        with pytest.raises(kind, match="which this step waited for, failed: exit code 7") as caught:
            turn.take()
        assert caught.value.own is own


def test_whoever_waits_for_a_step_that_was_killed_runs_it(world, lives):
    trial = trials_of(sweep(1).spec)[0]
    with pytest.raises(StepStoppedError):
        lives(Task(trial.spec), launch=ending_with(world, StepStoppedError("killed"), 1))
    (claim,) = (
        entry.data["claim"]
        for entry in fingerprint_log.Log.read(world.site().store, trial.fingerprint).entries
        if entry.kind == "claim"
    )
    assert fingerprint_log.Log.read(world.site().store, trial.fingerprint).failure(claim) is None


def test_rule_11_regenerate_outputs_runs_every_trial_and_commits_for_everybody(world, lives):
    lives(sweep(1, 4))
    world.launched.clear()
    outcome = lives(sweep(1, 4, regenerate=True), "r2")
    assert world.launched == ["tune[1]", "tune[2]"]
    assert outcome.result == "ran"
    assert lives(sweep(1, 4), "r3").number == outcome.number


def test_rule_11_allow_reuse_false_runs_every_trial(world, lives):
    lives(sweep(1, 4))
    world.launched.clear()
    assert lives(sweep(1, 4, allow_reuse=False), "r2").result == "ran"
    assert world.launched == ["tune[1]", "tune[2]"]


def test_the_outputs_of_a_sweep_are_its_own(world, lives):
    outcome = lives(sweep(1, 4))
    assert f"/{outcome.fingerprint}/" in outcome.outputs["model"].path
    trial = trials_of(sweep(1, 4).spec)[1]
    store = world.site().store
    record = fingerprint_log.Log.read(store, trial.fingerprint).records[0]
    store.remove(f"outputs/{trial.fingerprint}")
    fingerprint_log.void(store, trial.fingerprint, record.number, "pruned")
    assert lives(sweep(1, 4), "r2").result == "reused"
    assert model(outcome, world).read_text() == "model of 4\n"


def test_rule_12_retention_may_take_the_trials_and_leaves_the_sweep(world, lives):
    outcome = lives(sweep(1, 4))
    store = world.site().store
    (store.local_root / "runs").rename(world.root / "runs")  # nobody refers to anything any more
    guard = Guard(grace=timedelta(0), live=timedelta(0), recent=timedelta(0))
    pins.add(store, pins.Pin(fingerprint=outcome.fingerprint))
    Pruner(store, Policy(older_than=timedelta(0)), guard).prune()
    assert not list((store.local_root / "outputs").glob(f"{trials_of(sweep(1, 4).spec)[1].fingerprint}/*/*"))
    assert model(outcome, world).read_text() == "model of 4\n"


def after(outcome, world):
    taken = input_from(outcome.outputs["model"], InputSpec(), world.site().store.uri)
    command = (
        ("/bin/sh",),
        ("-c",),
        ('cat "$1/model" > "$0"',),
        (Reference("output", "out"),),
        (Reference("input", "m"),),
    )
    return Task(StepSpec("p", "second", "command", command, inputs={"m": taken}, outputs={"out": OutputSpec()}))


def test_rule_7_a_lost_output_is_made_again_of_the_trials_that_are_there(world, lives):
    outcome = lives(sweep(1, 4))
    world.launched.clear()
    world.site().store.remove(outcome.outputs["model"].path)
    second = lives(after(outcome, world), "r2")
    assert Path(world.site().store.full(second.outputs["out"].path)).read_text() == "model of 4\n"
    assert world.launched == ["second", "second"]


def test_rule_7_where_the_best_trial_is_lost_too_that_one_runs_again(world, lives):
    outcome = lives(sweep(1, 4))
    world.launched.clear()
    store = world.site().store
    store.remove("outputs")
    second = lives(after(outcome, world), "r2")
    assert Path(store.full(second.outputs["out"].path)).read_text() == "model of 4\n"
    assert world.launched == ["second", "tune[1]", "tune[2]", "second"]


def test_rule_7_a_damaged_trial_is_made_again_before_the_sweep_takes_it(world, lives):
    lives(sweep(1, 4))
    trial = trials_of(sweep(1, 4).spec)[1]
    store = world.site().store
    (file,) = (store.local_root / "outputs" / trial.fingerprint).glob("*/model/model")
    file.chmod(0o644)
    file.write_text("model of X\n")  # as many bytes
    world.launched.clear()
    outcome = lives(sweep(1, 4, 2), "r2")
    assert model(outcome, world).read_text() == "model of 4\n"
    assert world.launched == ["tune[3]", "tune[2]"]


def test_rule_12_a_trial_whose_outputs_were_evicted_runs_again_only_if_it_is_the_best(world, lives):
    lives(sweep(1, 4))
    store = world.site().store
    for trial in trials_of(sweep(1, 4).spec):
        (record,) = fingerprint_log.Log.read(store, trial.fingerprint).records
        fingerprint_log.evict(store, trial.fingerprint, record.number, "room")
        store.remove(f"outputs/{trial.fingerprint}")
    world.launched.clear()
    outcome = lives(sweep(1, 4, 2), "r2")
    assert model(outcome, world).read_text() == "model of 4\n"
    assert world.launched == ["tune[3]", "tune[2]"]


def test_rule_4_a_sweep_is_stale_when_what_a_trial_imported_is_another_version_now(world, lives):
    lives(sweep(1, 4))
    store = world.site().store
    trial = trials_of(sweep(1, 4).spec)[0]
    (record,) = fingerprint_log.Log.read(store, trial.fingerprint).records
    claim = fingerprint_log.claim(store, trial.fingerprint, world.life().owner)
    fingerprint_log.commit(store, claim, {**record.body, "observed": {"numpy": "1.0"}})
    outcome = lives(sweep(1, 4, 2), "r2")
    (made,) = fingerprint_log.Log.read(store, outcome.fingerprint).records
    assert made.body["observed"] == {"numpy": "1.0"}


def test_a_sweep_goes_to_its_destination_once(world, lives):
    task = sweep(1, 4)
    there = world.root / "there"
    outputs = {"model": OutputSpec(destination=there.as_uri())}
    lives(replace(task, spec=replace(task.spec, outputs=outputs)))
    assert (there / "model").read_text() == "model of 4\n"
    assert sum("copies output" in line for line in world.said) == 1


def test_the_journal_names_the_sweep_and_every_trial(world, lives):
    lives(sweep(1, 4))
    entries = journal.newest_first(world.site().store, "p")
    assert sorted(use.step for entry in entries for use in entry.uses) == ["tune", "tune[1]", "tune[2]"]


def test_two_sweeps_that_share_trials_compute_each_once(world, lives):
    lives(sweep(1, 4))
    world.launched.clear()
    lives(sweep(4, 9, step="other"), "r2")
    assert world.launched == ["other[2]"]
    assert fingerprint(components(sweep(4, 9).spec)) == fingerprint(components(sweep(4, 9, step="other").spec))


def test_rule_7_a_sweep_that_runs_no_trials_itself_makes_a_lost_sweep_before_it_again(world, lives):
    first = lives(sweep(1, 4))
    taken = input_from(first.outputs["model"], InputSpec(), world.site().store.uri)
    second = sweep(2, 5, step="again")
    second = replace(second, spec=replace(second.spec, inputs={"m": taken}))
    lives(second)
    best = trials_of(second.spec)[1].fingerprint
    store = world.site().store
    (record,) = fingerprint_log.Log.read(store, best).records
    fingerprint_log.evict(store, best, record.number, "room")
    store.remove(f"outputs/{best}")
    trials = ({"c": 2}, {"c": 5}, {"c": 9})
    third = replace(second, spec=replace(second.spec, sweep=replace(second.spec.sweep, trials=trials)))
    lives(replace(third, spec=trials_of(third.spec)[2].spec), "r2")
    for trial in trials_of(sweep(1, 4).spec):
        store.remove(f"outputs/{trial.fingerprint}")
        store.remove(f"log/{trial.fingerprint[:2]}/{trial.fingerprint}")
    store.remove(f"outputs/{first.fingerprint}")
    assert model(lives(third, "r3", trials_here=False), world).read_text() == "model of 5\n"
