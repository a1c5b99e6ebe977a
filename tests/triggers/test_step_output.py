from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone

import pytest
from airflow.triggers.base import BaseTrigger
from structlog.testing import capture_logs

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.confirmed import look_again
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.resolving.waiting import Wanted
from airflow_mlpipe.triggers import step_output as module
from airflow_mlpipe.triggers import watching
from airflow_mlpipe.triggers.step_output import StepOutputTrigger, place_of
from tests.journaled import Journaled

LATE = datetime(2025, 1, 31, tzinfo=timezone.utc)
SEEN = {"since": "", "news": "", "checked": False, "rejected": []}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(watching, "SHORTEST", 0.02)
    monkeypatch.setattr(watching, "GATHERING", 0.01)
    monkeypatch.delenv("MLPIPE_STORE", raising=False)


@pytest.fixture
def world(tmp_path):
    return Journaled(Site.open(Workspace(), default_store=tmp_path / "store"), tmp_path)


def trigger(world, *, seconds=20.0, place=None, seen=None, pause=0.0, **wanted):
    """Return a trigger as the triggerer gets it: through JSON."""
    until = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    wanted = Wanted(**(wanted or {"pipeline": "p", "step": "train", "after": LATE}))
    made = StepOutputTrigger(
        place or place_of(world.site), wanted.to_json(), {**SEEN, **(seen or {})}, 0.02, until.isoformat(), pause
    )
    path, arguments = made.serialize()
    assert path == "airflow_mlpipe.triggers.step_output.StepOutputTrigger"
    return StepOutputTrigger(**json.loads(json.dumps(arguments)))


async def event_of(waiting):
    events = [event.payload async for event in waiting.run()]
    (event,) = events
    return json.loads(json.dumps(event))


def fire(waiting):
    return asyncio.run(event_of(waiting))


def saying(action):
    """Return what an action returns, and the lines it logs."""
    with capture_logs() as logged:
        result = action()
    return result, [event["event"] % tuple(event.get("positional_args", ())) for event in logged]


def test_it_is_a_trigger_that_survives_the_way_to_the_triggerer(world):
    one = trigger(world)
    assert isinstance(one, BaseTrigger)
    assert trigger(world, place=one.place).serialize()[1]["wanted"] == one.wanted


def test_it_fires_with_what_is_there_already(world):
    world.ran("r1")
    event = fire(trigger(world))
    assert event["status"] == "found"
    found = look_again(world.site, Wanted("p", "train"), event["confirmed"])
    assert (found.record.number, found.by["run"]) == (world.made["train"].number, "r1")


def test_it_fires_when_a_run_confirms_the_output(world):
    world.time = datetime.now(timezone.utc)
    world.ran("r1", "2025-01-24")

    async def confirm_later():
        task = asyncio.create_task(event_of(trigger(world)))
        await asyncio.sleep(0.2)
        assert not task.done()
        world.reused("r2")
        return await task

    event = asyncio.run(confirm_later())
    assert (event["status"], event["confirmed"]["by"]["run"]) == ("found", "r2")


def test_it_fires_when_the_time_is_up_and_says_what_it_saw(world):
    world.ran("r1", "2025-01-24")
    event = fire(trigger(world, seconds=0.3))
    assert (event["status"], event["confirmed"]) == ("timeout", None)
    assert event["message"].endswith("UTC, which is for 2025-01-24")


def test_what_the_worker_saw_is_told_where_nothing_came_since(world):
    event = fire(trigger(world, seconds=0.2, seen={"since": "2026-01-01", "news": "last seen: run r0"}))
    assert event["message"].endswith("; last seen: run r0")


def test_the_first_look_may_be_put_off(world):
    world.ran("r1")
    event = fire(trigger(world, seconds=0.1, pause=0.2, seen={"news": "the last look failed"}))
    assert (event["status"], event["message"].rpartition("; ")[2]) == ("timeout", "the last look failed")
    assert fire(trigger(world, pause=0.1))["status"] == "found"


def test_it_fires_where_waiting_is_in_vain(world):
    world.ran("r1")
    event = fire(trigger(world, pipeline="p", step="train", outputs=("modle",)))
    assert event["status"] == "failed"
    assert "there are output model" in event["message"]


def test_what_the_worker_did_not_find_is_not_handed_to_it_again(world):
    record = world.ran("r1")
    rejected = [f"{record.fingerprint}/{record.number}"]
    event = fire(trigger(world, seconds=0.3, seen={"rejected": rejected}))
    assert (event["status"], event["rejected"]) == ("timeout", rejected)
    assert "see that triggerer and worker reach the same store" in event["message"]


def test_it_waits_for_a_record_of_a_fingerprint(world):
    record = world.record("r1", "train")
    event = fire(trigger(world, fingerprint=record.fingerprint))
    assert event["confirmed"]["number"] == record.number
    assert fire(trigger(world, seconds=0.2, fingerprint="0" * 64))["message"].endswith("there is none yet")


def test_its_log_says_what_it_waits_for_and_what_has_changed(world):
    world.ran("r1", "2025-01-24")
    _, said = saying(lambda: fire(trigger(world, seconds=0.3)))
    assert "looks at file://" in said[0]
    (line,) = said[1:]
    assert line.startswith("waits for train of p by a run for 2025-01-31 or later; last seen: run r1 made it at ")


def test_a_connection_is_asked_for_where_the_trigger_runs(world, monkeypatch):
    world.ran("r1")
    asked = []
    monkeypatch.setattr(module, "storage_options", lambda name: asked.append(name) or {"auto_mkdir": True})
    place = {**place_of(world.site), "connection": "team_store"}
    assert fire(trigger(world, place=place))["status"] == "found"
    assert asked == ["team_store"]


def test_a_connection_that_cannot_be_had_now_is_waited_for(world, monkeypatch):
    world.ran("r1")
    asked = []

    def storage_options(name):
        asked.append(name)
        if len(asked) < 3:
            message = f"Airflow has no connection {name!r}: create it"
            raise DataError(message)
        return {}

    monkeypatch.setattr(module, "storage_options", storage_options)
    place = {**place_of(world.site), "connection": "team_store"}
    event, said = saying(lambda: fire(trigger(world, place=place)))
    assert event["status"] == "found"
    assert "the last look failed: Airflow has no connection 'team_store'" in said[1]


def test_a_trigger_that_is_cancelled_leaves_nobody_looking(world):
    async def cancel():
        task = asyncio.create_task(event_of(trigger(world)))
        await asyncio.sleep(0.1)
        assert watching._watches(asyncio.get_running_loop())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return watching._watches(asyncio.get_running_loop())

    assert asyncio.run(cancel()) == {}


def test_triggers_that_wait_for_steps_of_one_pipeline_look_together(world):
    async def several():
        tasks = [asyncio.create_task(event_of(trigger(world, pipeline="p", step=f"s{n}"))) for n in range(5)]
        tasks.append(asyncio.create_task(event_of(trigger(world, pipeline="q", step="train"))))
        await asyncio.sleep(0.1)
        watches = len(watching._watches(asyncio.get_running_loop()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return watches

    assert asyncio.run(several()) == 2


def test_no_secret_is_among_the_arguments(tmp_path):
    datastores = {"lake": Datastore(url="s3://bucket", connection="lake_conn"), "here": Datastore(url="data")}
    workspace = Workspace(store=Datastore(url=str(tmp_path), connection="team"), datastores=datastores)
    site = Site.open(workspace, default_store="", storage_options=lambda _: {"auto_mkdir": True})
    assert place_of(site) == {
        "store": f"file://{tmp_path}",
        "connection": "team",
        "datastores": {"lake": "lake_conn", "here": None},
    }
    opened = module._open({**place_of(site), "connection": None})
    assert opened.workspace.datastore("lake").connection == "lake_conn"


def test_a_store_whose_url_holds_a_password_is_not_handed_over():
    class Store:
        url = "ftp://user:hush@host/store"

    with pytest.raises(DataError, match=r"ftp://user:\*\*\*@host/store, holds a secret") as error:
        place_of(Site(Workspace(), Store(), None, None))
    assert "hush" not in str(error.value)
