"""An S3 server that stops, stalls, refuses and breaks off while steps run."""

from __future__ import annotations

import pytest

from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.store import attempts
from tests.reuse.children import World, gone, until
from tests.reuse.engine import Engine
from tests.reuse.graphs import contents, many_steps
from tests.reuse.pure import Launches

pytestmark = [pytest.mark.s3, pytest.mark.timeout(600)]

IMPATIENT = {"config_kwargs": {"read_timeout": 1.0, "connect_timeout": 1.0}}
"""Else a client waits for a minute, and asks four times."""


@pytest.fixture
def world(s3, network, tmp_path):
    made = World(tmp_path, s3.fresh(), {**network.options, **IMPATIENT}, method="spawn")
    made.trust()
    yield made
    network.heal()
    made.close()


def whole(tmp_path, pipeline):
    """Return what a pipeline makes where nothing goes wrong."""
    engine = Engine(tmp_path / "whole", launcher=Launches())
    return contents(engine.site.store, engine.run(pipeline))


@pytest.mark.parametrize("fault", ["stop", "stall"])
def test_a_step_goes_on_when_a_server_that_was_away_is_back(world, network, fault):
    holder = world.start("first")
    world.running(1)
    getattr(network, fault)()
    seen = len(network.requests)
    world.let_the_command_end()
    until(lambda: gone(world.commands()[0]), "the command has not ended")
    if fault == "stall":
        until(lambda: len(network.requests) > seen + 2, "nobody asks again")
    network.heal()
    assert holder.end()["outcome"] == "ran"
    assert world.leftovers() == []
    world.check()


@pytest.mark.parametrize("fault", ["stop", "stall"])
def test_a_step_whose_server_stays_away_fails_clearly_and_the_next_run_takes_over(world, network, fault):
    world.options = {**network.options, "config_kwargs": {"read_timeout": 0.5}}
    holder = world.start("first", hasty=True)
    world.running(1)
    getattr(network, fault)()
    world.let_the_command_end()
    told = holder.end()
    assert (told["outcome"], told["error"]) == ("failed", "StoreUnreachableError")
    assert f"the store {world.store} failed: cannot write outputs/" in told["message"]
    assert "see that it is up and its credentials are right, then run again" in told["message"]
    assert any("the claim could not be given back" in line for line in told["said"])
    assert any("that the step failed could not be written down" in line for line in told["said"])
    network.heal()
    assert world.start("second").end()["outcome"] == "ran"
    world.check()


def test_a_waiter_outlasts_a_server_that_is_away_for_a_while(world, network):
    holder = world.start("first", beat=1.0)
    world.running(1)
    waiter = world.start("second")
    waiter.reach("waits")
    network.stop()
    network.heal()
    world.let_the_command_end()
    assert (holder.end()["outcome"], waiter.end()["outcome"]) == ("ran", "waited")
    assert world.runs() == 1
    world.check()


def test_five_percent_of_errors_change_nothing_of_what_a_pipeline_makes_and_reuses(
    world, network, tmp_path, monkeypatch
):
    monkeypatch.setattr(attempts, "PAUSES", (0, 0, 0, 0))
    pipeline = many_steps(tmp_path, 30)
    expected = whole(tmp_path, pipeline)
    engine = world.engine(launcher=Launches())
    network.fail(share=0.05, seed=11)
    first = engine.run(pipeline)
    assert first.outcomes() == {step.name: "ran" for step in pipeline.steps}
    assert contents(engine.site.store, first) == expected
    second = engine.run(pipeline)
    assert second.outcomes() == {step.name: "reused" for step in pipeline.steps}
    network.heal()
    assert contents(engine.site.store, second) == expected
    no_trace(engine.site.store, 30)


def test_bodies_that_are_broken_off_are_no_records_no_damage_and_no_inputs(world, network, tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES", (0, 0, 0, 0))
    pipeline = many_steps(tmp_path, 12)
    expected = whole(tmp_path, pipeline)
    engine = world.engine(launcher=Launches())
    network.cut(share=0.2, seed=5)
    first = engine.run(pipeline)
    assert first.outcomes() == {step.name: "ran" for step in pipeline.steps}
    second = engine.run(pipeline)
    assert second.outcomes() == {step.name: "reused" for step in pipeline.steps}
    network.heal()
    assert contents(engine.site.store, second) == expected
    no_trace(engine.site.store, 12)


def no_trace(store, steps):
    """See that each step was claimed and committed once, and nothing was taken for damaged."""
    logs = Inventory.read(store).logs.values()
    assert [[entry.kind for entry in log.entries] for log in logs] == [["claim", "commit"]] * steps
    assert [log.damaged for log in logs] == [()] * steps
