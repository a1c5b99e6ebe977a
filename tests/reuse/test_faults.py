"""Processes killed, paused and set wrong at any moment; what is damaged or lost, and what then runs again."""

from __future__ import annotations

import json
import signal
from functools import partial

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, RecordFormatError, StoreUnreachableError
from airflow_mlpipe.operators import life
from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner
from airflow_mlpipe.store import layout, log, runs
from airflow_mlpipe.store.entries import sealed
from tests.resolving.shelves import unsealed
from tests.reuse.children import AT_ONCE, STEP, World, gone, until
from tests.reuse.engine import Engine
from tests.reuse.graphs import contents, lose, many_steps
from tests.reuse.pure import Launches

BEFORE = ["claimed", "running"]
AFTER = ["committed", "noting"]
HOUR = 3600.0


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def world(request, tmp_path):
    if request.param == "local":
        made = World(tmp_path, str(tmp_path / "store"))
    else:
        server = request.getfixturevalue("s3")
        made = World(tmp_path, server.fresh(), server.options, method="spawn")
        made.trust()
    yield made
    made.close()


def holder_at(world, stage, run="first", **how):
    """Return a holder that stands at a stage."""
    holder = world.start(run, stop_at=stage, **how)
    if stage == "running":
        world.running(1)
    else:
        world.let_the_command_end()
        holder.reach("stopped")
    return holder


def kill_at(world, stage, **how):
    """Kill a holder at a stage; its command ends with it."""
    holder_at(world, stage, **how).kill()
    until(lambda: all(map(gone, world.commands())), "the command has outlived its holder")
    world.let_the_command_end()


@pytest.mark.parametrize("stage", BEFORE)
def test_rule_8_who_comes_after_a_holder_that_was_killed_takes_over_at_once(world, stage):
    kill_at(world, stage)
    assert world.start("second").end()["outcome"] == "ran"
    assert world.runs() == (1 if stage == "claimed" else 2)
    world.check()


def test_rule_8_who_comes_after_a_holder_that_was_killed_before_its_commit_records_what_it_has_made(world):
    kill_at(world, "published")
    told = world.start("second").end()
    assert told["outcome"] == "waited"
    assert "takes over what is there: p / first / slow has made its outputs" in told["said"]
    assert (world.runs(), world.made_by()) == (1, "first")
    world.check()


def test_rule_8_a_retry_records_what_its_killed_try_has_made(world):
    kill_at(world, "published", host="elsewhere")
    assert world.start("first", try_number=2).end()["outcome"] == "ran"
    assert (world.runs(), world.made_by()) == (1, "first")
    world.check()


def test_rule_8_of_two_that_are_killed_before_their_commits_the_first_has_made_what_the_third_records(world):
    kill_at(world, "published")
    second = world.start("second", stop_at="published")
    second.reach("stopped")
    second.kill()
    assert world.start("third").end()["outcome"] == "waited"
    assert (world.runs(), world.made_by()) == (1, "first")
    world.check()


def test_rule_7_what_a_killed_holder_has_made_is_made_again_where_some_of_it_is_gone(world):
    kill_at(world, "published")
    store = world.engine().site.store
    (lost,) = (path for path in store.sizes(layout.OUTPUTS) if path.endswith("/folder/b"))
    store.remove(f"{layout.OUTPUTS}/{lost}")
    assert world.start("second").end()["outcome"] == "ran"
    assert (world.runs(), world.made_by()) == (2, "second")
    world.check()


@pytest.mark.parametrize("stage", AFTER)
def test_rule_6_a_holder_that_was_killed_after_its_commit_has_made_a_record(world, stage):
    kill_at(world, stage)
    assert world.start("second").end()["outcome"] == "reused"
    assert world.runs() == 1
    world.check()


@pytest.mark.parametrize(("stage", "outcome"), [("claimed", "ran"), ("published", "waited")])
def test_rule_8_a_holder_that_was_killed_on_another_machine_is_taken_over_when_its_beat_has_expired(
    world, stage, outcome
):
    kill_at(world, stage, host="elsewhere")
    waiter = world.start("second", expiry=1.0)
    waiter.reach("waits")
    told = waiter.end()
    assert (told["outcome"], world.runs()) == (outcome, 1)
    assert "takes over from p / first / slow, which has shown no sign of life" in told["said"]
    world.check()


def test_rule_8_a_waiter_that_was_killed_leaves_nothing_and_holds_nobody_up(world):
    holder = holder_at(world, "running")
    waiters = [world.start(run) for run in ("second", "third")]
    for waiter in waiters:
        waiter.reach("waits")
    waiters[0].kill()
    world.let_the_command_end()
    assert holder.end()["outcome"] == "ran"
    assert waiters[1].end()["outcome"] == "waited"
    assert world.runs() == 1
    assert world.leftovers() == []
    world.check()


def test_rule_8_a_holder_that_was_paused_before_its_commit_finds_that_others_have_recorded_what_it_made(world):
    holder = holder_at(world, "published")
    holder.signal(signal.SIGSTOP)
    assert world.start("second", expiry=1.0).end()["outcome"] == "waited"
    holder.go_on()
    holder.signal(signal.SIGCONT)
    assert holder.end()["outcome"] == "ran"
    assert (world.runs(), world.made_by(), len(world.log().records)) == (1, "first", 1)
    assert world.leftovers() == []
    world.check()


def test_rule_8_a_holder_that_was_paused_for_too_long_is_fenced_and_leaves_no_orphan(world):
    holder = holder_at(world, "running")
    holder.signal(signal.SIGSTOP)
    waiter = world.start("second", expiry=1.0)
    world.running(2)
    world.let_the_command_end()
    assert waiter.end()["outcome"] == "ran"
    holder.go_on()
    holder.signal(signal.SIGCONT)
    told = holder.end()
    assert (told["outcome"], told["error"]) == ("failed", "ClaimLostError")
    assert "was taken over by p / second / slow, since it showed no sign of life" in told["message"]
    assert world.made_by() == "second"
    assert world.leftovers() == []
    world.check()


def test_rule_8_a_holder_that_was_paused_before_it_began_takes_what_was_made_meanwhile(world):
    holder = holder_at(world, "claimed")
    holder.signal(signal.SIGSTOP)
    assert world.start("second", expiry=1.0).end()["outcome"] == "ran"
    holder.go_on()
    holder.signal(signal.SIGCONT)
    assert holder.end()["outcome"] == "reused"
    assert world.runs() == 1
    assert world.leftovers() == []
    world.check()


def test_rule_8_a_retry_takes_over_at_once_and_what_its_earlier_try_says_later_counts_for_nothing(world):
    first = holder_at(world, "running", host="elsewhere")
    first.signal(signal.SIGSTOP)
    second = world.start("first", try_number=2)
    world.running(2)
    world.let_the_command_end()
    told = second.end()
    assert (told["outcome"], [line for line in told["said"] if "waits" in line]) == ("ran", [])
    first.go_on()
    first.signal(signal.SIGCONT)
    told = first.end()
    assert (told["error"], "a later try of this task" in told["message"]) == ("ClaimLostError", True)
    note = runs.read_note(world.engine().site.store, "p", "first", STEP)
    assert (note["outcome"], note["outputs"].keys()) == ("ran", {"out", "folder"})
    assert world.leftovers() == []
    world.check()


@pytest.mark.parametrize("skews", [(HOUR, -HOUR), (-HOUR, HOUR)])
def test_rule_8_clocks_that_differ_by_hours_change_nothing(world, skews):
    holder = holder_at(world, "running", skew=skews[0], host="elsewhere")
    waiter = world.start("second", skew=skews[1])
    waiter.reach("waits")
    world.let_the_command_end()
    assert (holder.end()["outcome"], waiter.end()["outcome"]) == ("ran", "waited")
    assert world.runs() == 1
    world.check()


@pytest.mark.parametrize("skews", [(HOUR, -HOUR), (-HOUR, HOUR)])
def test_rule_8_a_holder_expires_by_the_clock_of_who_waits_whatever_time_it_has(world, skews):
    kill_at(world, "published", skew=skews[0], host="elsewhere")
    assert world.start("second", skew=skews[1], expiry=1.0).end()["outcome"] == "waited"
    world.check()


def test_rule_7_of_a_share_of_all_outputs_that_is_lost_only_the_producers_run_again(world):
    engine, pipeline = world.engine(launcher=Launches()), many_steps(world.root, 20)
    store = engine.site.store
    first = engine.run(pipeline)
    before = contents(store, first)
    assert len(before) == 60
    for turn in range(2):
        engine.taken()
        lost = lose(store, first, share=0.3, seed=turn)
        again = engine.run(pipeline)
        assert sorted(engine.taken()) == sorted(lost)
        assert {name for name, ended in again.steps.items() if ended.outcome == "ran"} == lost
        assert {ended.outcome for ended in again.steps.values()} == {"ran", "reused"}
        assert contents(store, again) == before
        Pruner(store, Policy(keep_last=1), AT_ONCE).prune()  # what is left of the voided records


def test_rule_7_a_truncated_input_never_reaches_a_script(world):
    engine, pipeline = world.engine(launcher=Launches()), many_steps(world.root, 2)
    store = engine.site.store
    expected = contents(store, engine.run(pipeline))
    for path in store.sizes(layout.LOG):
        store.remove(f"{layout.LOG}/{path}")
    plan = engine.plan(pipeline, "r2")
    made = engine.follow(pipeline, plan, only=["s0"])["s0"]
    for path in store.sizes(f"{layout.OUTPUTS}/{made.fingerprint}"):
        place = f"{layout.OUTPUTS}/{made.fingerprint}/{path}"
        store.remove(place)
        store.write(place, b"cut")
    assert engine.follow(pipeline, plan, only=["s1"])["s1"].outcome == "ran"
    assert any("was lost" in line for line in engine.said)
    assert contents(store, engine.run(pipeline)) == expected


@pytest.fixture
def pure(tmp_path):
    return Engine(tmp_path, launcher=Launches())


def entry(ended):
    """Return where the record of a step lies."""
    return layout.log_entry(ended.fingerprint, ended.number)


def changed(store, path, **fields):
    """Change some fields of an entry, as whoever writes it would."""
    store.write(path, sealed({**unsealed(store.read(path)), **fields}))


def test_rule_10_a_log_that_a_newer_version_wrote_to_is_refused_by_name_and_left_as_it_is(pure, tmp_path):
    pipeline, store = many_steps(tmp_path, 2), pure.site.store
    plan = pure.plan(pipeline, "planned")
    ran = pure.follow(pipeline, plan)
    changed(store, entry(ran["s0"]), format=2, kind="lease")
    before = store.sizes("log"), store.sizes("outputs")
    with pytest.raises(
        RecordFormatError, match=r"\.json has format 2, written by a newer airflow-mlpipe; .*upgrade it"
    ):
        pure.run(pipeline)
    refused = pure.follow(pipeline, plan)
    assert refused.outcomes() == {"s0": "failed", "s1": "not_run"}
    assert isinstance(refused["s0"].error, RecordFormatError)
    assert (store.sizes("log"), store.sizes("outputs")) == before
    pruned = Pruner(store, Policy(keep_last=0), AT_ONCE).prune()
    assert [str(ran["s0"].fingerprint) in line for line in pruned.unreadable] == [True]
    assert pure.content(ran["s0"].outputs["out"])


def test_rule_10_a_record_whose_body_a_newer_version_wrote_is_no_hit_and_says_so(pure, tmp_path):
    pipeline, store = many_steps(tmp_path, 1), pure.site.store
    ran = pure.run(pipeline)["s0"]
    body = json.loads(store.read(entry(ran)))["body"]
    changed(store, entry(ran), body={**body, "body": 2})
    again = pure.run(pipeline)["s0"]
    assert again.outcome == "ran"
    assert "has format 2, written by a newer airflow-mlpipe" in again.line
    assert pure.content(again.outputs["folder"]) == pure.content(ran.outputs["folder"])


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda text: text[: len(text) // 2], lambda text: text[:-1], lambda text: bytes(len(text))],
    ids=["empty", "half", "but one byte", "zeros"],
)
def test_rule_10_a_damaged_record_is_never_a_hit(pure, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(log, "Watch", partial(log.Watch, expiry=-1))  # who made it lives, as it is this very process
    pipeline, store = many_steps(tmp_path, 3), pure.site.store
    ran = pure.run(pipeline)
    path = entry(ran["s1"])
    store.write(path, damage(store.read(path)))
    pure.taken()
    again = pure.run(pipeline)
    assert pure.taken() == ["s1"]
    assert contents(store, again) == contents(store, ran)
    assert pure.run(pipeline).outcomes() == dict.fromkeys(ran.steps, "reused")
    assert Inventory.read(store).logs[ran["s1"].fingerprint].damaged == (ran["s1"].number,)


def test_rule_10_a_record_without_the_spec_of_its_step_is_no_way_to_make_a_lost_input_again(pure, tmp_path):
    pipeline, store = many_steps(tmp_path, 2), pure.site.store
    plan = pure.plan(pipeline, "r1")
    ran = pure.follow(pipeline, plan, only=["s0"])["s0"]
    body = json.loads(store.read(entry(ran)))["body"]
    changed(store, entry(ran), body={name: value for name, value in body.items() if name != "spec"})
    store.remove(layout.OUTPUTS)
    failed = pure.follow(pipeline, plan, only=["s1"])["s1"]
    assert isinstance(failed.error, RecordFormatError)
    assert "cannot be read" in str(failed.error)


class Failing:
    """A launcher whose command fails."""

    def launch(self, *_):
        message = "exit code 7"
        raise CommandFailedError(message)


def unreachable(*_, **__):
    message = "no route to the store"
    raise StoreUnreachableError(message)


def test_a_step_that_fails_while_the_store_is_away_says_why_it_failed(tmp_path, monkeypatch):
    engine = Engine(tmp_path, launcher=lambda *_: Failing())
    monkeypatch.setattr(log, "release", unreachable)
    monkeypatch.setattr(runs, "write_note", unreachable)
    failed = engine.run(many_steps(tmp_path, 1))["s0"]
    assert (type(failed.error), str(failed.error)) == (CommandFailedError, "exit code 7")
    assert engine.said[1:] == [
        "the claim could not be given back: no route to the store",
        "that the step failed could not be written down: no route to the store",
    ]


@pytest.mark.parametrize("where", [(life.Life, "_decide_again"), (log.Beat, "__enter__")])
def test_a_claim_is_given_back_when_the_store_fails_right_after_it(pure, tmp_path, monkeypatch, where):
    monkeypatch.setattr(*where, unreachable)
    failed = pure.run(many_steps(tmp_path, 1))
    assert isinstance(failed["s0"].error, StoreUnreachableError)
    assert pure.log(failed.plan.decisions["s0"].fingerprint).holder is None
    assert pure.taken() == []


DAMAGES = {
    "empty": b"",
    "half": b'{"format": 1, "pi',
    "zeros": bytes(20),
    "a list": b"[]",
    "nothing": b"null",
    "no fields": b"{}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rule_10_a_damaged_plan_is_named_and_never_followed(pure, tmp_path, damage):
    pipeline, store = many_steps(tmp_path, 1), pure.site.store
    plan, path = pure.plan(pipeline, "r1"), layout.plan("p", "r1")
    store.write(path, DAMAGES[damage])
    failed = pure.follow(pipeline, plan)["s0"]
    assert isinstance(failed.error, RecordFormatError)
    assert f"{store.uri(path)} is damaged" in str(failed.error)
    assert "remove it, then run again" in str(failed.error)
    assert pure.taken() == []
    with pytest.raises(RecordFormatError, match=r"plan\.json is damaged"):
        Pruner(store, Policy(keep_last=0), Guard()).prune()
    store.remove(path)
    assert pure.follow(pipeline, plan)["s0"].outcome == "ran"
    assert any("the step is bound again" in line for line in pure.said)


@pytest.mark.parametrize("damage", DAMAGES)
def test_rule_10_a_damaged_note_stops_who_needs_it(pure, tmp_path, damage):
    pipeline, store = many_steps(tmp_path, 2), pure.site.store
    plan, path = pure.plan(pipeline, "r1"), layout.note("p", "r1", "s0")
    pure.follow(pipeline, plan, only=["s0"])
    store.write(path, DAMAGES[damage])
    failed = pure.follow(pipeline, plan, only=["s1"])["s1"]
    assert isinstance(failed.error, RecordFormatError)
    assert f"{store.uri(path)} is damaged" in str(failed.error)


@pytest.mark.parametrize("damage", DAMAGES)
def test_rule_12_nothing_is_removed_while_a_pin_is_damaged(pure, tmp_path, damage):
    pipeline, store = many_steps(tmp_path, 1), pure.site.store
    ran = pure.run(pipeline, "r1")["s0"]
    for path in (layout.record_pin(str(ran.fingerprint)), layout.pin("p", "r1")):
        store.write(path, DAMAGES[damage])
        with pytest.raises(RecordFormatError, match="damaged") as refused:
            Pruner(store, Policy(keep_last=0), AT_ONCE).prune()
        assert store.uri(path) in str(refused.value)
        assert pure.content(ran.outputs["out"])
        store.remove(path)
    assert pure.run(pipeline, "r2")["s0"].outcome == "reused"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_and_damaged_notes_for_explanations_change_no_decision(pure, tmp_path, damage):
    pipeline, store = many_steps(tmp_path, 3), pure.site.store
    ran = pure.run(pipeline)
    for folder in ("journal", "latest"):
        for path in store.sizes(folder):
            store.write(f"{folder}/{path}", DAMAGES[damage])
    assert pure.run(pipeline).outcomes() == dict.fromkeys(ran.steps, "reused")
    assert len(Inventory.read(store).items) == 3
