from __future__ import annotations

import json
import os
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner
from airflow_mlpipe.store import checkpoints, journal, layout, pins, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.pins import Pin
from airflow_mlpipe.store.store import Store
from tests.resolving.shelves import Shelves

NONE = timedelta(0)
DAY = timedelta(days=1)
AT_ONCE = Guard(NONE, NONE, NONE)
OLD = Policy(runs_older_than=30 * DAY)


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def ran(shelves, run, days, record=None, *, step="train"):
    """Leave what a run leaves that ended some days ago."""
    if record:
        shelves.used(record, run, step=step)
    else:
        journal.append(shelves.store, "p", run, {}, [journal.Use(step, "failed")])
    shelves.noted(run, step, "reused" if record else "failed", record=record)
    shelves.pin(run, ago=days * DAY)
    made_older(shelves.store, run, days)


def made_older(store, run, days):
    """Let what a run left in the journal and in its folder be of an earlier time."""
    then = datetime.now(timezone.utc) - days * DAY
    for day in journal.days(store, "p"):
        for name in journal.names(store, "p", day):
            path = f"{layout.journal_day('p', day)}/{name}"
            entry = json.loads(store.read(path))
            if entry["run"] == run:
                store.remove(path)
                moved = {**entry, "time": then.isoformat()}
                store.write(layout.journal_entry("p", f"{then:%Y-%m-%d}", uuid.uuid4().hex), json.dumps(moved).encode())
    for path in store.sizes(layout.run("p", run)):
        os.utime(store.local_root / layout.run("p", run) / path, times=(then.timestamp(),) * 2)


def gone(shelves, policy=OLD, guard=AT_ONCE):
    """Prune; return which kinds of what runs left went."""
    return sorted((each.kind, each.path) for each in Pruner(shelves.store, policy, guard).prune().removed)


def days_left(shelves):
    today = datetime.now(timezone.utc).date()
    left = [day for day in journal.days(shelves.store, "p") if journal.names(shelves.store, "p", day)]
    return sorted((today - datetime.fromisoformat(day).date()).days for day in left)


def test_what_runs_left_goes_when_it_is_older_than_the_policy_says(shelves):
    ran(shelves, "r1", 90)
    ran(shelves, "r2", 10)
    removed = gone(shelves)
    assert [kind for kind, _ in removed] == ["journal", "runs"]
    assert removed[1][1] == layout.run("p", "r1")
    assert (runs.runs(shelves.store, "p"), days_left(shelves)) == (["r2"], [10])


def test_nothing_that_runs_left_goes_by_another_policy(shelves):
    ran(shelves, "r1", 900)
    assert gone(shelves, Policy(older_than=NONE, unused_for=NONE)) == []
    assert runs.runs(shelves.store, "p") == ["r1"]


def test_what_leads_to_a_record_that_is_there_stays_whatever_its_age(shelves):
    old, newer = shelves.made("prepare"), shelves.made("train")
    ran(shelves, "r1", 90, old, step="prepare")
    ran(shelves, "r2", 80, newer, step="train")
    ran(shelves, "r3", 70, newer, step="train")
    assert [path for kind, path in gone(shelves) if kind == "runs"] == [layout.run("p", "r1"), layout.run("p", "r2")]
    assert days_left(shelves) == [70, 90]
    assert [item.last_used[:4] for item in Inventory.read(shelves.store).find("p.prepare")] != []


def test_rule_12_what_a_pinned_run_left_stays(shelves):
    ran(shelves, "r1", 90)
    pins.add(shelves.store, Pin(pipeline="p", run="r1"))
    assert [kind for kind, _ in gone(shelves)] == ["journal"]
    assert runs.runs(shelves.store, "p") == ["r1"]


def test_rule_12_what_a_run_left_stays_as_long_as_it_may_be_under_way(shelves):
    ran(shelves, "r1", 5)
    policy = Policy(runs_older_than=NONE)
    assert gone(shelves, policy, Guard(NONE, live=7 * DAY, recent=NONE)) == []
    assert gone(shelves, policy, Guard(NONE, live=NONE, recent=7 * DAY)) == []
    assert [kind for kind, _ in gone(shelves, policy)] == ["journal", "runs"]


def test_rule_12_what_a_run_left_stays_while_one_of_its_steps_runs(shelves):
    ran(shelves, "r1", 90)
    owner = Owner("another host", "", "", "p", "r1", "train", "p/r1/train/-1", 1)
    claim = fingerprint_log.claim(shelves.store, "c" * 64, owner)
    shelves.store.write(layout.beat("c" * 64, claim.id), b"beat")
    assert [kind for kind, _ in gone(shelves)] == ["journal"]
    fingerprint_log.release(shelves.store, claim)
    assert "runs" in [kind for kind, _ in gone(shelves)]


def test_the_journal_stays_as_long_as_last_uses_decide_what_goes(shelves):
    ran(shelves, "r1", 90)
    assert gone(shelves, Policy(runs_older_than=30 * DAY, unused_for=100 * DAY)) == []
    assert gone(shelves, Policy(runs_older_than=30 * DAY, unused_for=80 * DAY)) != []


def test_a_run_that_left_only_notes_is_as_old_as_they_are(shelves):
    shelves.noted("r1", "train")
    assert gone(shelves) == []
    made_older(shelves.store, "r1", 90)
    assert gone(shelves) == [("runs", layout.run("p", "r1"))]


def test_what_runs_left_goes_in_two_phases_and_not_if_the_run_was_planned_again(shelves):
    ran(shelves, "r1", 90)
    pruner = Pruner(shelves.store, OLD, Guard(timedelta(hours=1), NONE, NONE))
    condemned = pruner.prune()
    assert (condemned.removed, {each.kind for each in condemned.condemned}) == ((), {"runs", "journal"})
    assert pruner.prune().removed == ()
    shelves.pin("r1")
    assert [kind for kind, _ in gone(shelves)] == ["journal"]
    assert runs.runs(shelves.store, "p") == ["r1"]


def test_a_run_that_is_planned_again_while_the_store_is_pruned_keeps_its_folder(shelves, monkeypatch):
    ran(shelves, "r1", 90)
    pruner = Pruner(shelves.store, OLD, AT_ONCE)
    survey = pruner._survey

    def late():
        found = survey()
        shelves.pin("r1")
        return found

    monkeypatch.setattr(pruner, "_survey", late)
    assert "runs" not in {each.kind for each in pruner.prune().removed}
    assert runs.runs(shelves.store, "p") == ["r1"]


def test_what_is_kept_for_the_next_run_goes_with_the_rest_of_a_pipeline(shelves):
    runs.write_latest(shelves.store, "p", "train", {"components": {}})
    shelves.store.write(layout.copies("p"), b"1")
    ran(shelves, "r1", 90)
    assert [kind for kind, _ in gone(shelves)] == ["journal", "runs"]
    assert gone(shelves) == [("pipelines", layout.copies("p")), ("pipelines", layout.latest_of("p"))]
    assert gone(shelves) == []
    assert shelves.store.sizes("") == {}
    assert runs.pipelines(shelves.store) == []


def test_what_runs_left_on_no_disk_goes_just_so():
    store = Store.open(f"memory://store-{uuid.uuid4().hex}")
    time = (datetime.now(timezone.utc) - 90 * DAY).isoformat()
    runs.write_pin(store, "p", "r1", {"time": time, "fingerprints": []})
    runs.write_pin(store, "p", "r2", {"time": datetime.now(timezone.utc).isoformat(), "fingerprints": []})
    pruning = Pruner(store, OLD, AT_ONCE).look()
    assert [each.path for each in pruning.condemned] == [layout.run("p", "r1")]


@pytest.mark.parametrize(
    "path", ["log/cc/{fp}/{tmp}", "runs/p/r1/{tmp}", "journal/p/{tmp}", "beat/{fp}/{tmp}", "{tmp}"]
)
def test_a_temporary_file_of_whoever_was_killed_goes_after_a_day(shelves, path):
    named = path.format(fp="c" * 64, tmp=".0123456789abcdef.tmp") if "/" in path else ".probe-0123456789abcdef"
    shelves.store.write(named, b"half")
    assert gone(shelves, Policy()) == []
    yesterday = datetime.now(timezone.utc).timestamp() - 86400
    os.utime(shelves.store.local_root / named, times=(yesterday, yesterday))
    assert ("temporary", named) in [
        (each.kind, each.path) for each in Pruner(shelves.store, Policy(), AT_ONCE).look().removed
    ]
    assert gone(shelves, Policy(), Guard(timedelta(hours=1))) == [("temporary", named)]
    assert not (shelves.store.local_root / named).exists()


def test_a_checkpoint_that_no_try_has_saved_for_a_week_goes(shelves, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "epoch").write_text("3")
    for key in ("a" * 64, "b" * 64):
        checkpoints.save(shelves.store, key, tmp_path / "saved")
    last_week = datetime.now(timezone.utc).timestamp() - 7 * 86400 - 60
    for path in shelves.store.sizes("checkpoints"):
        if path.startswith("a"):
            os.utime(shelves.store.local_root / "checkpoints" / path, times=(last_week, last_week))
    assert gone(shelves, Policy()) == [("checkpoints", layout.checkpoints("a" * 64))]
    assert not checkpoints.restore(shelves.store, "a" * 64, tmp_path / "gone")
    assert checkpoints.restore(shelves.store, "b" * 64, tmp_path / "kept")


def test_a_file_of_the_user_in_an_output_is_no_temporary_file(shelves):
    record = shelves.made()
    named = f"{shelves.folder(record)}/.0123456789abcdef.tmp"
    shelves.store.write(named, b"theirs")
    os.utime(shelves.store.local_root / named, times=(0, 0))
    assert gone(shelves, Policy()) == []


def test_another_policy_in_between_does_not_begin_the_grace_time_anew(shelves):
    ran(shelves, "r1", 90)
    later = Guard(timedelta(hours=1), NONE, NONE)
    Pruner(shelves.store, OLD, later).prune()
    listed = shelves.store.names(layout.CONDEMNED)
    Pruner(shelves.store, Policy(keep_last=1), later).prune()
    assert shelves.store.names(layout.CONDEMNED) == listed != []
