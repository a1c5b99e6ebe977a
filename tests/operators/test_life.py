from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.operators import claims
from airflow_mlpipe.operators.claims import Wait
from airflow_mlpipe.resolving.records import make_body
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.outputs import publish
from tests.operators.conftest import task


def fails(*_):
    message = "exit code 1"
    raise CommandFailedError(message)


def test_the_second_run_reuses(world):
    first = world.life("r1").live(task())
    second = world.life("r2").live(task())
    assert (first.result, second.result) == ("ran", "reused")
    assert second.outputs == first.outputs
    assert second.made_by["run"] == "r1"
    assert world.launched == ["train"]


def test_a_changed_parameter_runs_and_says_so(world):
    world.life("r1").live(task(1.0))
    outcome = world.life("r2").live(task(0.5))
    assert outcome.line() == "ran: parameter c: 1.0 -> 0.5"


def test_the_first_run_says_that_it_is_the_first(world):
    assert world.life("r1").live(task()).line() == "ran: it has not run before"


def test_going_back_to_an_earlier_value_reuses_it(world):
    world.life("r1").live(task(1.0))
    world.life("r2").live(task(0.5))
    assert world.life("r3").live(task(1.0)).result == "reused"
    assert world.life("r4").live(task(0.25)).line() == "ran: parameter c: 1.0 -> 0.25"


def test_rule_6_a_failed_step_leaves_no_record(world):
    with pytest.raises(CommandFailedError):
        world.life("r1", launch=fails).live(task())
    assert world.life("r2").live(task()).result == "ran"


def test_a_failed_step_is_noted_with_its_error(world):
    with pytest.raises(CommandFailedError):
        world.life("r1", launch=fails).live(task())
    note = runs.read_note(world.site().store, "p", "r1", "train")
    assert (note["outcome"], note["error"]) == ("failed", "exit code 1")


def test_rule_7_a_record_whose_output_is_gone_is_voided_with_that_reason(world):
    first = world.life("r1").live(task())
    world.published(first).unlink()
    second = world.life("r2").live(task())
    assert second.result == "ran"
    assert "output model of the earlier run" in second.line()
    assert [record.number for record in _log(world, first).records] == [second.number]


def test_rule_7_a_truncated_output_is_no_hit(world):
    first = world.life("r1").live(task())
    path = world.published(first)
    path.chmod(0o644)
    path.write_text("mod")
    assert world.life("r2").live(task()).result == "ran"


def test_rule_11_regenerate_runs_again_and_commits_for_everybody(world):
    world.life("r1").live(task())
    second = world.life("r2", launch=world.writes("new")).live(task(regenerate=True))
    third = world.life("r3").live(task())
    assert (second.result, third.result) == ("ran", "reused")
    assert third.outputs == second.outputs


def test_rule_11_a_retry_of_a_regenerating_run_takes_its_own_record(world):
    world.life("r1").live(task())
    second = world.life("r2").live(task(regenerate=True))
    again = world.life("r2").live(task(regenerate=True))
    assert (again.result, again.number) == ("reused", second.number)


def test_rule_11_allow_reuse_false_takes_no_claim_and_its_result_may_be_reused(world):
    world.life("r1").live(task())
    second = world.life("r2", launch=world.writes("new")).live(task(allow_reuse=False))
    kinds = [entry.kind for entry in _log(world, second).entries]
    assert kinds.count("claim") == 1
    assert world.life("r3").live(task()).outputs == second.outputs


def saved_under(world, run, **switches):
    """Return under which key a step that fails keeps what its next try shall find."""
    given = task(**switches)
    keys = []

    def launch(spec, fingerprint, _):
        keys.append((spec.saved_under(fingerprint), fingerprint))
        return fails()

    for number in (1, 2):
        life = world.life(run, launch=launch, task_instance=f"d/{run}/train/-1", try_number=number)
        with pytest.raises(CommandFailedError):
            life.live(replace(given, spec=replace(given.spec, checkpoint=True)))
    ((key, fingerprint),) = set(keys)  # the same for all tries
    return key, key == fingerprint


def test_a_step_goes_on_from_what_other_runs_of_the_same_have_saved(world):
    assert saved_under(world, "r1") == saved_under(world, "r2")
    assert saved_under(world, "r1")[1]


@pytest.mark.parametrize("switches", [{"regenerate": True}, {"allow_reuse": False}])
def test_rule_11_a_step_that_takes_nothing_from_other_runs_goes_on_only_from_what_its_own_tries_have_saved(
    world, switches
):
    first, second = (saved_under(world, run, **switches) for run in ("r1", "r2"))
    assert first != second
    assert not first[1]
    assert not second[1]


@pytest.mark.parametrize("switches", [{}, {"regenerate": True}, {"allow_reuse": False}])
def test_what_was_saved_for_the_next_try_goes_when_there_is_none(world, switches):
    store, given = world.site().store, task(**switches)

    def launch(spec, fingerprint, claim):
        store.write(layout.latest_checkpoint(spec.saved_under(fingerprint)), b"{}")
        return world.writes("model")(spec, fingerprint, claim)

    world.life("r1", launch=launch).live(replace(given, spec=replace(given.spec, checkpoint=True)))
    assert store.sizes(layout.CHECKPOINTS) == {}


def test_who_comes_second_waits_and_takes_the_result(world):
    started, go = threading.Event(), threading.Event()

    def slow(*call):
        started.set()
        assert go.wait(10)
        return world.writes("model")(*call)

    results = {}
    holder = threading.Thread(target=lambda: results.update(a=world.life("r1", launch=slow).live(task())))
    holder.start()
    assert started.wait(10)
    waiter = threading.Thread(target=lambda: results.update(b=world.life("r2").live(task())))
    waiter.start()
    time.sleep(0.3)
    go.set()
    holder.join(10)
    waiter.join(10)
    assert (results["a"].result, results["b"].result) == ("ran", "waited")
    assert world.launched == ["train"]
    assert any(line.startswith("waits for p / r1 / train, which began at 20") for line in world.said)


def test_a_waiter_fails_with_its_holder(world):
    started, go = threading.Event(), threading.Event()

    def slow(*_):
        started.set()
        assert go.wait(10)
        fails()

    def hold():
        with pytest.raises(CommandFailedError):
            world.life("r1", launch=slow).live(task())

    holder = threading.Thread(target=hold)
    holder.start()
    assert started.wait(10)
    threading.Timer(0.3, go.set).start()
    with pytest.raises(StepError, match=r"p / r1 / train, which this step waited for, failed: exit code 1"):
        world.life("r2").live(task())
    holder.join(10)


def test_every_waiter_fails_with_the_holder_and_none_runs_the_command_again(world):
    started, go, errors = threading.Event(), threading.Event(), []

    def slow(*_):
        world.launched.append("slow")
        started.set()
        assert go.wait(10)
        fails()

    def live(run):
        try:
            world.life(run, launch=slow).live(task())
        except StepError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=live, args=(f"r{number}",)) for number in range(5)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.5)
    go.set()
    for thread in threads:
        thread.join(20)
    assert world.launched == ["slow"]
    assert len(errors) == 5


def test_a_later_try_of_the_same_task_supersedes_the_one_that_died(world, monkeypatch):
    site = world.site()
    life = world.life("r1", task_instance="d/r1/train/-1", try_number=1)
    decision = life._decide(task())
    assert fingerprint_log.claim(site.store, decision.fingerprint, life.owner)
    never_waits(monkeypatch)
    outcome = world.life("r1", task_instance="d/r1/train/-1", try_number=2).live(task())
    assert outcome.result == "ran"


def never_waits(monkeypatch):
    """Let whoever would wait for a holder fail instead."""
    monkeypatch.setattr(claims.time, "sleep", lambda _: pytest.fail("it waits"))


def test_a_late_commit_of_a_superseded_try_does_not_count(world):
    site = world.site()
    late = world.life("r1", task_instance="d/r1/train/-1", try_number=1)
    decision = late._decide(task())
    claim = fingerprint_log.claim(site.store, decision.fingerprint, late.owner)
    second = world.life("r1", task_instance="d/r1/train/-1", try_number=2).live(task())
    with pytest.raises(fingerprint_log.ClaimLostError):
        fingerprint_log.commit(site.store, claim, {"body": 1})
    assert _log(world, second).records[0].number == second.number


def test_metrics_and_seconds_of_the_record_come_with_reuse(world):
    world.life("r1", launch=world.writes("m", metrics={"auc": 0.9}, seconds=12.5)).live(task())
    again = world.life("r2").live(task())
    assert (again.metrics, again.seconds) == ({"auc": 0.9}, 12.5)


class _HandedOverError(Exception):
    """Stands for what leaves the worker."""


def _hands_over(told):
    def hand_over(holder, awaited):
        told.append((holder, awaited))
        raise _HandedOverError

    return lambda _: hand_over


def _waits(world, monkeypatch):
    """Have a run hold the claim, and another hand its wait over; return the holder's claim and what was told."""
    monkeypatch.setattr(claims, "PATIENCE", 0.1)
    life = world.life("r1")
    held = fingerprint_log.claim(world.site().store, life._decide(task()).fingerprint, life.owner)
    told = []
    with pytest.raises(_HandedOverError):
        replace(world.life("r2"), hand_over=_hands_over(told)).live(task())
    ((holder, awaited),) = told
    assert (holder, awaited) == (held, (held.id,))
    return held


def _resumed(world, held, **before):
    return replace(world.life("r2"), before=Wait((held.id,), **before))


def test_rule_8_a_wait_that_lasts_is_handed_over_and_takes_the_result_afterwards(world, monkeypatch):
    held = _waits(world, monkeypatch)
    body = make_body(task().spec, StepResult(exit_code=0, **_made(world, held)), {"pipeline": "p", "run": "r1"})
    fingerprint_log.commit(world.site().store, held, body)
    outcome = _resumed(world, held).live(task())
    assert outcome.result == "waited"
    assert "p / r1 / train computed it in the meantime" in outcome.line()
    assert world.launched == []


def test_rule_8_after_a_wait_that_was_handed_over_the_holders_error_is_the_waiters(world, monkeypatch):
    held = _waits(world, monkeypatch)
    fingerprint_log.release(world.site().store, held, "exit code 7")
    with pytest.raises(StepError, match="p / r1 / train, which this step waited for, failed: exit code 7"):
        _resumed(world, held).live(task())
    assert world.launched == []
    assert fingerprint_log.Log.read(world.site().store, held.fingerprint).holder is None


def test_rule_8_a_holder_that_gave_up_without_an_error_is_followed(world, monkeypatch):
    held = _waits(world, monkeypatch)
    fingerprint_log.release(world.site().store, held)
    assert _resumed(world, held).live(task()).result == "ran"


def test_rule_8_a_beat_that_stood_still_long_enough_elsewhere_is_taken_over_at_once(world, monkeypatch):
    held = _waits(world, monkeypatch)
    world.site().store.write(layout.beat(held.fingerprint, held.id), b"\x01")
    never_waits(monkeypatch)
    assert _resumed(world, held, expired=held.id, beat="01").live(task()).result == "ran"


def test_rule_8_a_holder_that_beats_again_is_waited_for_again(world, monkeypatch):
    held = _waits(world, monkeypatch)
    world.site().store.write(layout.beat(held.fingerprint, held.id), b"\x02")
    told = []
    with pytest.raises(_HandedOverError):
        replace(_resumed(world, held, expired=held.id, beat="01"), hand_over=_hands_over(told)).live(task())
    assert told[0][1] == (held.id,)


def test_a_result_that_is_lost_by_the_end_of_the_wait_is_made_again(world, monkeypatch):
    held = _waits(world, monkeypatch)
    made = _made(world, held)
    body = make_body(task().spec, StepResult(exit_code=0, **made), {"pipeline": "p", "run": "r1"})
    fingerprint_log.commit(world.site().store, held, body)
    (world.root / "store" / made["outputs"]["model"].path).unlink()
    assert _resumed(world, held).live(task()).result == "ran"


def _made(world, held):
    """Publish what the holder made."""
    source = world.root / "made"
    source.write_text("model")
    content = publish(world.site().store, held.fingerprint, held.id, "model", source)
    return {"outputs": {"model": OutputRef(layout.output(held.fingerprint, held.id, "model"), content)}}


def _log(world, outcome):
    return fingerprint_log.Log.read(world.site().store, outcome.fingerprint)
