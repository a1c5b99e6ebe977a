from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.exceptions import DataError, RecordFormatError, StoreUnreachableError
from airflow_mlpipe.resolving.confirmed import (
    Follower,
    RecordWatch,
    look_again,
    look_back,
    source_of,
    write_down,
)
from airflow_mlpipe.resolving.predicate import Predicate
from airflow_mlpipe.resolving.references import token_now
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.resolving.waiting import Waiting, Wanted
from airflow_mlpipe.runtime.protocol import Content, OutputRef, dump
from airflow_mlpipe.store import journal, layout, runs
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.log import commit_unclaimed, void
from airflow_mlpipe.store.store import Store
from tests.journaled import NOON, Journaled, moments
from tests.services import unreachable

LATE = datetime(2025, 1, 31, tzinfo=timezone.utc)
WANTED = Wanted("p", "train", after=LATE)
DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Site.open(Workspace(), default_store=tmp_path / "store")


@pytest.fixture
def world(site, tmp_path):
    return Journaled(site, tmp_path)


@contextmanager
def listings(monkeypatch):
    """Give the prefixes that are listed in a block."""
    listed = []
    with monkeypatch.context() as patch:
        names = Store.names
        patch.setattr(Store, "names", lambda store, prefix: listed.append(prefix) or names(store, prefix))
        yield listed


def follow(world, since="", days=0):
    """Return a follower whose clock goes with that of the writers."""
    follower = Follower("p", lambda: world.time + timedelta(days=days))
    follower.read(world.site, since)
    return follower


def both(world, wanted):
    """Return what looking back finds, and what following from the beginning finds."""
    back, on = Waiting(wanted), Waiting(wanted)
    found = look_back(world.site, back), follow(world).judge(on)
    assert back.news == on.news
    return found


def runs_of(found):
    return [confirmed and confirmed.by["run"] for confirmed in found]


def test_the_newest_output_that_a_run_made_or_confirmed_is_found(world):
    world.ran("r1")
    assert runs_of(both(world, WANTED)) == ["r1", "r1"]
    world.reused("r2", "2025-02-07")
    back, on = both(world, WANTED)
    assert back == on
    assert (back.by["run"], back.by["outcome"], back.made_by["run"]) == ("r2", "reused", "r1")
    assert back.outputs["model"].path == world.output(world.made["train"])


def test_what_an_earlier_run_made_counts_once_a_late_one_reuses_it(world):
    world.ran("weekly 1", "2025-01-24")
    assert both(world, WANTED) == (None, None)
    world.reused("weekly 2", "2025-01-31")
    assert runs_of(both(world, WANTED)) == ["weekly 2", "weekly 2"]


def test_other_steps_and_pipelines_do_not_count(world):
    world.ran("r1", step="clean")
    world.ran("r1", pipeline="q")
    assert both(world, WANTED) == (None, None)


def test_the_last_word_on_a_step_of_a_run_counts(world):
    world.ran("r1")
    world.reused("r2")
    world.failed("r2")
    assert runs_of(both(world, WANTED)) == ["r1", "r1"]
    world.failed("r1")
    assert both(world, WANTED) == (None, None)
    world.reused("r2")
    assert runs_of(both(world, WANTED)) == ["r2", "r2"]


def test_a_condition_finds_the_newest_run_that_fits_however_old(world):
    wanted = Wanted("p", "train", where=Predicate.parse("metrics.accuracy >= 0.9 and parameters.c < 2"))
    world.ran("good", "2024-01-01", metrics={"accuracy": 0.95}, parameters={"c": 1.0})
    world.time += 100 * DAY
    world.ran("bad", metrics={"accuracy": 0.8}, parameters={"c": 1.0})
    world.ran("wrong", metrics={"accuracy": 0.9}, parameters={"c": 3.0})
    assert runs_of(both(world, wanted)) == ["good", "good"]


def test_only_a_run_with_the_outputs_that_are_needed_counts(world):
    world.ran("r1", outputs=("model", "report"))
    world.ran("r2")
    assert runs_of(both(world, Wanted("p", "train", ("report",), LATE))) == ["r1", "r1"]


def test_what_no_run_has_is_not_waited_for(world):
    world.ran("r1", "2024-01-01")
    for look in (look_back, lambda _, waiting: follow(world).judge(waiting)):
        with pytest.raises(DataError, match="there are output model"):
            look(world.site, Waiting(Wanted("p", "train", ("modle",), LATE)))


def test_a_record_that_was_voided_does_not_count_and_the_message_says_so(world):
    record = world.ran("r1")
    void(world.site.store, record.fingerprint, record.number, "output model: it is gone")
    waiting = Waiting(WANTED)
    assert look_back(world.site, waiting) is None
    assert waiting.message().endswith(", but its record was voided: output model: it is gone")


def test_an_output_that_is_lost_does_not_count_and_the_message_says_so(world):
    record = world.ran("r1")
    world.site.store.remove(world.output(record))
    waiting = Waiting(WANTED)
    assert look_back(world.site, waiting) is None
    assert waiting.message().endswith(", but its output model is lost: it is gone")
    world.reused("r2")
    assert both(world, WANTED) == (None, None)


def test_only_the_outputs_that_are_needed_have_to_be_there(world):
    record = world.ran("r1", outputs=("model", "report"))
    world.site.store.remove(world.output(record, "report"))
    assert runs_of(both(world, Wanted("p", "train", ("model",), LATE))) == ["r1", "r1"]
    assert both(world, WANTED) == (None, None)


def test_what_was_made_anew_of_the_same_things_stands_for_what_was_voided(world):
    record = world.ran("r1")
    other = world.record("r1", "train")
    again = commit_unclaimed(world.site.store, record.fingerprint, "again", other.body)
    void(world.site.store, record.fingerprint, record.number, "lost")
    found, _ = both(world, WANTED)
    assert found.record.number == again.number
    assert found.by["run"] == "r1"


def test_what_was_lost_and_is_made_again_is_found(world):
    record = world.ran("r1")
    world.site.store.remove(world.output(record))
    follower, waiting = follow(world), Waiting(WANTED)
    assert follower.judge(waiting) is None
    other = world.record("r1", "train")
    commit_unclaimed(world.site.store, record.fingerprint, "again", other.body)
    follower.read(world.site, "")
    assert follower.judge(waiting).by["run"] == "r1"


@pytest.mark.parametrize("body", [{}, {"body": 99}, {"body": 1, "outputs": {"model": {}}}])
def test_a_record_that_cannot_be_read_does_not_count(world, body):
    record = world.ran("r1")
    world.made["train"] = commit_unclaimed(world.site.store, record.fingerprint, "bad", body)
    void(world.site.store, record.fingerprint, record.number, "x")
    waiting = Waiting(WANTED)
    assert look_back(world.site, waiting) is None


def test_a_journal_of_a_newer_version_is_refused_by_name(world):
    world.site.store.write(layout.journal_entry("p", "2025-02-01", "000000.0-ab"), b'{"format": 99}')
    for look in (look_back, lambda *_: follow(world)):
        with pytest.raises(RecordFormatError, match="upgrade"):
            look(world.site, Waiting(WANTED))


def transferred(world, destination):
    """Leave a transfer whose output is its destination."""
    destination.write_text("1\n")
    site = world.site
    content = digest_path(destination)
    output = OutputRef(f"file://{destination}", content, "lake", token_now(site.store.fs, str(destination)))
    record = commit_unclaimed(site.store, "d" * 64, "t", {"body": 1, "outputs": {"data": dump(output)}})
    world.made["train"] = record
    world.ended("ran", "r1", "2025-01-31", "train")


def test_rule_13_a_transfer_counts_while_its_destination_is_as_it_was(world, tmp_path):
    workspace = Workspace(datastores={"lake": Datastore(url=str(tmp_path))})
    site = Site.open(workspace, default_store=world.site.store.root)
    destination = tmp_path / "copied.csv"
    transferred(world, destination)
    assert look_back(site, Waiting(WANTED)).outputs["data"].path == f"file://{destination}"
    destination.write_text("2\n")
    waiting = Waiting(WANTED)
    assert look_back(site, waiting) is None
    assert "is no longer what was copied there" in waiting.message()
    destination.unlink()
    assert look_back(site, waiting) is None
    assert "there is no data at" in waiting.message()


def test_rule_10_a_destination_out_of_reach_says_nothing(world):
    workspace = Workspace(datastores={"lake": Datastore(url="service://x")})
    site = Site.open(workspace, default_store=world.site.store.root)
    output = OutputRef("service://x/data", Content("file", "version:1", 1, 1), "lake", "1")
    body = {"body": 1, "outputs": {"data": dump(output)}}
    world.made["train"] = commit_unclaimed(site.store, "d" * 64, "t", body)
    world.ended("ran", "r1", "2025-01-31", "train")
    with unreachable(), pytest.raises(StoreUnreachableError, match="no route to the service"):
        look_back(site, Waiting(WANTED))


def test_what_somebody_else_found_is_looked_at_again(world):
    world.ran("r1")
    found = look_back(world.site, Waiting(WANTED))
    told = json.loads(json.dumps(found.to_json()))
    assert look_again(world.site, WANTED, told) == found
    shutil.rmtree(Path(world.site.store.root) / "outputs")
    assert look_again(world.site, WANTED, told) == "its output model is lost: it is gone"


def test_looking_back_ends_soon_after_what_can_count(world, monkeypatch):
    for day in range(10):
        world.ran(f"r{day}", f"2025-01-{10 + day:02}")
        world.time += DAY
    with listings(monkeypatch) as listed:
        waiting = Waiting(Wanted("p", "train", after=LATE + 7 * DAY))
        assert look_back(world.site, waiting) is None
    assert len([prefix for prefix in listed if prefix.startswith("journal/p/")]) < 8
    assert "last seen: run r9" in waiting.message()


def test_looking_back_goes_on_until_something_can_be_told_about_the_step(world):
    world.ran("old", "2024-01-01")
    for day in range(5):
        world.time += DAY
        world.ran(f"r{day}", "2024-01-01", step="clean")
    waiting = Waiting(Wanted("p", "train", after=LATE + 30 * DAY))
    assert look_back(world.site, waiting) is None
    assert "last seen: run old made it" in waiting.message()


def test_where_the_first_look_failed_whoever_reads_on_begins_at_the_beginning():
    site = Site.open(Workspace(), default_store="service://store")
    waiting = Waiting(Wanted("p", "train", after=LATE))
    with unreachable(), pytest.raises(StoreUnreachableError):
        look_back(site, waiting)
    assert waiting.since == "2025-01-29"
    assert look_back(site, waiting) is None
    assert waiting.since > "2026"


def test_a_look_costs_one_listing_and_reads_only_what_is_new(world, monkeypatch):
    world.ran("r1", "2025-01-24")
    follower, waiting = follow(world), Waiting(WANTED)
    assert follower.judge(waiting) is None
    read = []
    actual = journal.read
    monkeypatch.setattr(journal, "read", lambda *args: read.extend(args[3]) or actual(*args))
    with listings(monkeypatch) as listed:
        for _ in range(5):
            follower.read(world.site, "")
        assert (listed, read) == (["journal/p/2025-02-01"] * 5, [])
        world.reused("r2")
        follower.read(world.site, "")
    assert len(read) == 1
    with listings(monkeypatch) as listed:
        assert follower.judge(waiting).by["run"] == "r2"
    assert len([prefix for prefix in listed if prefix.startswith("journal")]) == 0


def test_however_many_wait_a_record_is_looked_at_once_a_look(world, monkeypatch):
    world.ran("r1")
    follower = follow(world)
    with listings(monkeypatch) as listed:
        assert all(follower.judge(Waiting(WANTED)) for _ in range(10))
    assert len(listed) == 1


@pytest.mark.parametrize("skew", [-timedelta(minutes=59), timedelta(minutes=59)])
def test_a_writer_whose_clock_is_off_by_an_hour_is_seen_by_the_next_look(world, skew):
    for hour in range(26):
        now = NOON + hour * timedelta(hours=1)
        follower, waiting = Follower("p", lambda now=now: now), Waiting(WANTED)
        follower.read(world.site, "")
        assert follower.judge(waiting) is None or hour
        world.time = now + skew
        world.ran(f"r{hour}", "2025-03-01")
        follower.read(world.site, "")
        assert follower.judge(waiting).by["run"] == f"r{hour}"


@pytest.mark.parametrize("days", [-4, -1, 1, 3, 400])
def test_a_writer_whose_clock_is_off_by_days_is_seen_by_the_tenth_look(world, days):
    follower, waiting = follow(world, days=days), Waiting(WANTED)
    world.ran("r1")
    for _ in range(10):
        follower.read(world.site, "")
    assert follower.judge(waiting).by["run"] == "r1"


def test_what_was_written_while_nobody_looked_is_seen(world):
    times = iter([NOON, NOON + 3 * DAY])
    follower, waiting = Follower("p", lambda: next(times)), Waiting(WANTED)
    follower.read(world.site, "")
    for day in range(3):
        world.time = NOON + day * DAY
        world.ran(f"r{day}", "2025-01-31" if day == 0 else "2025-01-24")
    follower.read(world.site, "")
    assert follower.judge(waiting).by["run"] == "r0"


def test_days_that_nobody_needs_any_more_are_forgotten_and_read_again_when_somebody_does(world):
    world.ran("old")
    world.time += 5 * DAY
    world.ran("new", "2025-01-24")
    follower = follow(world)
    follower.read(world.site, "2025-02-04")
    assert follower.judge(Waiting(WANTED)) is None
    follower.read(world.site, "2025-02-01")
    assert follower.judge(Waiting(WANTED)).by["run"] == "old"


def test_one_who_waits_already_is_not_troubled_by_older_days(world):
    world.ran("old", "2025-01-24")
    world.time += 5 * DAY
    world.ran("new", "2025-01-25")
    follower, waiting = follow(world, "2025-02-04"), Waiting(WANTED)
    follower.judge(waiting)
    follower.read(world.site, "")
    assert follower.judge(waiting) is None
    assert "last seen: run new" in waiting.message()


def test_a_look_that_failed_is_made_good_by_the_next(world, monkeypatch):
    follower, waiting = follow(world), Waiting(WANTED)
    world.ran("r1")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "read_all", lambda *_: (_ for _ in ()).throw(StoreUnreachableError("no route")))
        with pytest.raises(StoreUnreachableError):
            follower.read(world.site, "")
    follower.read(world.site, "")
    assert follower.judge(waiting).by["run"] == "r1"


def test_a_record_that_could_not_be_looked_at_is_looked_at_again(world, monkeypatch):
    follower, waiting = follow(world), Waiting(WANTED)
    world.ran("r1")
    follower.read(world.site, "")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "sizes", lambda *_: (_ for _ in ()).throw(StoreUnreachableError("no route")))
        with pytest.raises(StoreUnreachableError):
            follower.judge(waiting)
    assert follower.judge(waiting).by["run"] == "r1"


def test_a_record_of_a_fingerprint_is_waited_for(world):
    record = world.record("r1", "train")
    wanted = Wanted(fingerprint=record.fingerprint)
    for store in (world.site, Site.open(Workspace(), default_store=world.folder / "empty")):
        watch, waiting = source_of(wanted), Waiting(wanted)
        assert isinstance(watch, RecordWatch)
        watch.read(store, "")
        found = watch.judge(waiting)
        assert found == look_back(store, waiting)
        assert (found and found.made_by["run"]) == ("r1" if store is world.site else None)
    assert isinstance(source_of(WANTED), Follower)


def test_who_used_an_output_is_written_down_for_retention_and_saved_nothing(world):
    world.ran("r1")
    found = look_back(world.site, Waiting(WANTED))
    write_down(world.site, {"pipeline": "daily", "run": "d1", "step": "wait"}, moments("2025-02-01"), found)
    note = runs.read_note(world.site.store, "daily", "d1", "wait")
    assert note["outputs"]["model"]["path"] == found.outputs["model"].path
    (entry,) = journal.newest_first(world.site.store, "daily")
    (use,) = entry.uses
    assert (entry.run, use.step, use.outcome, use.fingerprint) == ("d1", "wait", "waited", found.record.fingerprint)
    assert use.seconds == 0


OUTCOMES = st.tuples(
    st.sampled_from(["ran", "reused", "failed"]),
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from(["2025-01-24", "2025-01-31", "2025-02-07"]),
    st.sampled_from(["train", "clean"]),
    st.integers(0, 40),
)


@settings(max_examples=40)
@given(st.lists(st.tuples(OUTCOMES, st.booleans()), max_size=12))
def test_whoever_follows_finds_what_looking_back_finds_at_each_moment(tmp_path_factory, outcomes):
    folder = tmp_path_factory.mktemp("journal")
    world = Journaled(Site.open(Workspace(), default_store=folder / "store"), folder)
    follower, waiting, last = Follower("p", lambda: world.time), Waiting(WANTED), {}
    for (outcome, run, moment, step, hours), looks in outcomes:
        if outcome == "reused" and step not in world.made:
            continue
        getattr(world, outcome)(run, moment, step)
        world.time += timedelta(hours=hours)
        if step == "train":
            last.pop(run, None)
            last[run] = outcome != "failed" and moment >= "2025-01-31"
        if looks:
            newest = next((run for run in reversed(last) if last[run]), None)
            follower.read(world.site, "")
            assert runs_of((look_back(world.site, Waiting(WANTED)), follower.judge(waiting))) == [newest, newest]
            if newest:
                waiting = Waiting(WANTED)
