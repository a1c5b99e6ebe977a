"""Steps that go on without their worker: left, come back to, lost, taken over."""

# ruff: noqa: ARG002 -- called as every launcher is
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_mlpipe.exceptions import ClaimLostError, StepError
from airflow_mlpipe.operators.leaving import GoesOnError, Resumed, abandon, come_back, leaving
from airflow_mlpipe.resolving.launched import Launched
from airflow_mlpipe.runtime.results import write_result
from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.beat import PATIENCE, patience_of
from tests.operators.conftest import task
from tests.triggers.waits import Never


@dataclass
class Cluster:
    """Where launched work goes on: by claim, whether it lives."""

    world: Any
    works: dict[str, bool] = field(default_factory=dict)

    def launch(self, spec, fingerprint, claim, secrets=None, log=None):
        if claim not in self.works:
            self.works[claim] = True
        raise TaskDeferred(trigger=Never(), method_name="look")

    def resume(self, spec, fingerprint, claim, secrets, log, method, event):
        assert method == "look"
        if event == "once more":
            raise TaskDeferred(trigger=Never(), method_name="look")
        if event == "failed":
            message = "exit code 7"
            raise StepError(message)
        return self.made(spec, fingerprint, claim)

    def made(self, spec, fingerprint, claim):
        """End the work well."""
        result = self.world.writes("model")(spec, fingerprint, claim)
        write_result(self.world.site().store, fingerprint, claim, result)
        self.works[claim] = False
        return result

    def kill(self): ...

    def lives(self, spec, fingerprint, claim):
        return self.works.get(claim, False)

    def end(self, spec, fingerprint, claim):
        self.works[claim] = False

    def life(self, run, told=None, event="ended", **owner):
        """Return a life whose step is launched here, or come back to."""

        def launch(spec, fingerprint, claim):
            with leaving(self, spec, fingerprint, claim):
                return self.launch(spec, fingerprint, claim)

        life = self.world.life(run, launch=launch, task_instance=f"d/{run}/train/-1", **owner)
        life = replace(life, launcher_of=lambda _: self)
        if told is None:
            return life
        launched = come_back(life.site.store, told, life.owner)
        return replace(life, resumed=Resumed(launched, partial(self.finish, launched, event)))

    def finish(self, launched, event):
        with leaving(self, launched.spec, launched.fingerprint, launched.work):
            return self.resume(launched.spec, launched.fingerprint, launched.work, {}, print, "look", event)

    def leaves(self, run="r1", **how):
        """Have a run leave the step; return what is told of it."""
        with pytest.raises(GoesOnError) as left:
            self.life(run, **how).live(task())
        return left.value.told()


@pytest.fixture
def cluster(world):
    return Cluster(world)


def read(world, told):
    return fingerprint_log.Log.read(world.site().store, told["fingerprint"])


def test_rule_8_a_step_that_is_left_keeps_its_claim_by_a_beat_that_asks_for_patience(world, cluster):
    told = cluster.leaves()
    holder = read(world, told).holder
    assert (holder.id, holder.owner.process) == (told["claim"], "")
    beat = world.site().store.read(layout.beat(told["fingerprint"], told["claim"]))
    assert patience_of(beat) == PATIENCE
    assert cluster.works == {told["work"]: True}
    assert runs.read_note(world.site().store, "p", "r1", "train") is None


def test_rule_8_who_comes_back_commits_under_the_same_claim(world, cluster):
    told = cluster.leaves()
    outcome = cluster.life("r1", told).live(task())
    assert (outcome.result, outcome.made_by["run"]) == ("ran", "r1")
    log = read(world, told)
    assert [record.claim for record in log.records] == [told["claim"]]
    assert world.site().store.sizes(layout.BEATS) == {}
    assert world.life("r2").live(task()).result == "reused"


def test_a_step_may_be_left_more_than_once(world, cluster):
    told = cluster.leaves()
    assert cluster.leaves(told=told, event="once more") == told
    assert cluster.life("r1", told).live(task()).result == "ran"
    assert world.launched == ["train"]


def test_a_step_that_fails_after_it_was_left_gives_its_claim_back_with_the_error(world, cluster):
    told = cluster.leaves()
    with pytest.raises(StepError, match="exit code 7"):
        cluster.life("r1", told, "failed").live(task())
    assert read(world, told).failure(told["claim"]) == "exit code 7"
    assert runs.read_note(world.site().store, "p", "r1", "train")["outcome"] == "failed"


def test_rule_8_a_retry_goes_on_with_what_its_earlier_try_has_left(world, cluster):
    first = cluster.leaves()
    second = cluster.leaves(try_number=2)
    assert (second["claim"] != first["claim"], second["work"]) == (True, first["work"])
    assert list(cluster.works) == [first["work"]]
    assert cluster.life("r1", second, try_number=2).live(task()).result == "ran"
    (record,) = read(world, second).records
    assert (record.claim, record.published) == (second["claim"], first["claim"])


def test_rule_8_an_earlier_try_that_comes_back_late_is_fenced_and_ends_nothing(cluster):
    first = cluster.leaves()
    second = cluster.leaves(try_number=2)
    with pytest.raises(ClaimLostError):
        _late(cluster, first)
    assert cluster.works[second["work"]]


def _late(cluster, first):
    store = cluster.world.site().store
    life = cluster.life("r1")
    launched = Launched.read(store, life.owner)
    resumed = Resumed(replace(launched, claim=first["claim"]), lambda: pytest.fail("it goes on"))
    replace(life, resumed=resumed).live(task())


def test_rule_8_who_takes_over_goes_on_with_work_that_lives(world, cluster):
    first = cluster.leaves()
    taken = fingerprint_log.take_over(
        world.site().store, first["fingerprint"], read(world, first).holder, world.life("r2").owner
    )
    fingerprint_log.release(world.site().store, taken)
    second = cluster.leaves("r2")
    assert (second["run"], second["work"]) == ("r2", first["work"])


def test_rule_10_what_was_left_is_ended_and_made_anew_where_the_log_may_have_said_how_it_ended(world, cluster):
    first = cluster.leaves()
    store = world.site().store
    number = read(world, first).last + 1
    store.write(layout.log_entry(first["fingerprint"], number), b'{"format": 1')
    second = cluster.leaves(try_number=2)
    assert second["work"] != first["work"]
    assert cluster.works == {first["work"]: False, second["work"]: True}


def test_rule_8_who_lost_its_claim_takes_what_others_have_recorded_of_its_work(world, cluster):
    told = cluster.leaves()
    store = world.site().store
    launched = Launched.read(store, world.life("r1").owner)
    cluster.made(launched.spec, launched.fingerprint, launched.work)
    fingerprint_log.take_over(
        store, told["fingerprint"], read(world, told).holder, world.life("r2", task_instance="r2", try_number=1).owner
    )
    other = world.life("r2", task_instance="r2", try_number=2)
    assert other.live(task()).result == "waited"
    outcome = cluster.life("r1", told).live(task())
    assert (outcome.result, outcome.made_by["run"]) == ("ran", "r1")
    assert len(read(world, told).records) == 1


def test_rule_8_who_lost_its_claim_to_somebody_who_made_it_anew_ends_its_own_work_and_takes_theirs(world, cluster):
    told = cluster.leaves()
    store = world.site().store
    taken = fingerprint_log.take_over(store, told["fingerprint"], read(world, told).holder, world.life("r2").owner)
    fingerprint_log.release(store, taken)
    world.life("r3", task_instance="r3").live(task())
    outcome = cluster.life("r1", told).live(task())
    assert outcome.result == "reused"
    assert cluster.works == {told["work"]: False}


def test_a_wait_that_failed_ends_what_was_launched_and_gives_the_claim_back(world, cluster):
    told = cluster.leaves()
    store, owner = world.site().store, world.life("r1").owner
    assert abandon(store, owner, lambda _: cluster, "the time is up", {})
    assert cluster.works == {told["work"]: False}
    assert read(world, told).failure(told["claim"]) == "the time is up"
    assert runs.read_note(store, "p", "r1", "train")["error"] == "the time is up"
    assert abandon(store, owner, lambda _: cluster, "again", {}) is None


def test_what_is_not_known_any_more_is_said_and_its_claim_given_back(world, cluster):
    told = cluster.leaves()
    world.site().store.remove(layout.launched("p", "r1", "train"))
    with pytest.raises(StepError, match="is not known any more"):
        cluster.life("r1", told)
    assert read(world, told).holder is None


def test_rule_11_a_step_that_takes_no_claim_may_be_left_too(world, cluster):
    with pytest.raises(GoesOnError) as left:
        cluster.life("r1").live(task(allow_reuse=False))
    told = left.value.told()
    assert told["claim"] == ""
    assert read(world, told).last == 0
    assert cluster.life("r1", told).live(task(allow_reuse=False)).result == "ran"
    (record,) = read(world, told).records
    assert record.claim == told["work"]


@pytest.mark.parametrize("gone", [False, True])
def test_rule_8_a_retry_that_takes_no_claim_ends_what_its_earlier_try_has_left(cluster, monkeypatch, gone):
    def away(*_):
        message = "the cluster does not answer"
        raise StepError(message)

    with pytest.raises(GoesOnError) as first:
        cluster.life("r1").live(task(allow_reuse=False))
    with pytest.raises(GoesOnError):
        cluster.life("r2").live(task(allow_reuse=False))
    if gone:
        monkeypatch.setattr(cluster, "end", away)
    with pytest.raises(GoesOnError):
        cluster.life("r1", try_number=2).live(task(allow_reuse=False))
    assert cluster.works.pop(first.value.told()["work"]) is gone
    assert list(cluster.works.values()) == [True, True]


def test_a_launcher_that_cannot_be_come_back_to_may_not_defer():
    with pytest.raises(TypeError, match="cannot be come back to"), leaving(object(), task().spec, "f", "c"):
        raise TaskDeferred(trigger=Never(), method_name="look")
