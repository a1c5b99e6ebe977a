from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.planning.plan import Decision
from airflow_mlpipe.resolving import referring as module
from airflow_mlpipe.resolving.referring import referring
from airflow_mlpipe.runtime.protocol import EnvironmentSpec
from airflow_mlpipe.store import layout, pins, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.pins import Pin
from tests.resolving.shelves import Shelves

NEVER = timedelta(0)
HOUR = timedelta(hours=1)
ELSEWHERE = Owner("another host", "", "", "p", "r1", "train", "p/r1/train/-1", 1)


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def kept(shelves, record, **times):
    """Return why a record must be kept."""
    return referring(shelves.store, **times).why(record.fingerprint, shelves.folder(record))


def runs_now(step="test"):
    return Decision("run", Shelves.spec(None, step))


def test_what_nobody_refers_to_need_not_be_kept(shelves):
    assert kept(shelves, shelves.made()) is None


def test_what_is_pinned_is_kept_with_the_note_of_whoever_pinned_it(shelves):
    record = shelves.made()
    pins.add(shelves.store, Pin(fingerprint=record.fingerprint, note="the paper's"))
    assert kept(shelves, record) == "it is pinned: the paper's"
    assert kept(shelves, shelves.made(c=2)) is None


def test_all_that_a_pinned_run_used_is_kept_however_long_ago_it_was(shelves):
    reused, ran, other = shelves.made(c=1), shelves.made(c=2), shelves.made(c=3)
    plan = shelves.planned("r1", shelves.reuses(reused), runs_now())
    shelves.noted("r1", "test", plan=plan.id, record=ran)
    shelves.pin("r1", other, ago=timedelta(days=999))
    pins.add(shelves.store, Pin(pipeline="p", run="r1"))
    assert kept(shelves, reused) == kept(shelves, ran) == "run r1 is pinned"
    assert kept(shelves, other) is None


def test_what_a_run_may_use_is_kept_from_before_it_looks_anything_up(shelves):
    record = shelves.made()
    shelves.pin("r1", record)
    assert kept(shelves, record) == "run r1 of p is under way"
    assert referring(shelves.store).planning


def test_what_a_planned_run_reuses_is_kept_until_its_other_steps_have_ended(shelves):
    record = shelves.made()
    shelves.pin("r1")
    plan = shelves.planned("r1", shelves.reuses(record), runs_now())
    assert not referring(shelves.store).planning
    assert kept(shelves, record, recent=NEVER) == "run r1 of p is under way"
    shelves.noted("r1", "test", plan=plan.id)
    assert kept(shelves, record, recent=NEVER) is None


def test_what_a_run_made_is_kept_while_it_is_under_way(shelves):
    record = shelves.made()
    shelves.pin("r1")
    shelves.planned("r1", runs_now("train"), runs_now())
    shelves.noted("r1", "train", record=record)
    assert kept(shelves, record, recent=NEVER) == "run r1 of p is under way"


def test_what_a_run_used_stays_for_a_while_after_it_has_ended(shelves):
    record = shelves.made()
    shelves.planned("r1", shelves.reuses(record))
    shelves.used(record, "r1")
    assert kept(shelves, record) == "run r1 of p used it in the last 24 h"
    assert kept(shelves, record, recent=NEVER) is None


def test_a_run_with_a_failed_step_may_go_on(shelves):
    record = shelves.made()
    plan = shelves.planned("r1", shelves.reuses(record), runs_now())
    shelves.pin("r1")
    shelves.noted("r1", "test", "failed", plan=plan.id)
    assert kept(shelves, record, recent=NEVER) is not None


def test_a_run_that_was_planned_anew_has_not_ended_by_what_it_did_before(shelves):
    record = shelves.made()
    shelves.pin("r1")
    shelves.noted("r1", "test", plan="an earlier plan")
    shelves.planned("r1", shelves.reuses(record), runs_now())
    assert kept(shelves, record, recent=NEVER) is not None


def test_a_run_that_never_ended_is_given_up_after_some_silence(shelves):
    record = shelves.made()
    shelves.pin("r1", record, ago=timedelta(days=6))
    assert kept(shelves, record) is not None
    assert kept(shelves, record, live=timedelta(days=5), recent=NEVER) is None


def test_what_a_run_took_is_known_from_the_journal_too(shelves):
    record = shelves.made()
    shelves.noted("r1", "train")
    shelves.used(record, "r1", "ran")
    assert kept(shelves, record) is not None


def test_a_run_without_a_plan_counts_as_under_way_since_its_last_step_ended(shelves):
    record = shelves.made()
    shelves.noted("r1", "train", record=record)
    assert kept(shelves, record) is None
    shelves.used(record, "r1", "ran")
    assert kept(shelves, record, recent=NEVER) is not None
    assert kept(shelves, record, live=NEVER, recent=NEVER) is None


def test_a_silent_run_is_under_way_while_it_computes(shelves):
    record, computed = shelves.made(), "c" * 64
    shelves.planned("r1", shelves.reuses(record), runs_now())
    shelves.pin("r1", ago=timedelta(days=30))
    claim = fingerprint_log.claim(shelves.store, computed, ELSEWHERE)
    assert kept(shelves, record) == "run r1 of p is under way"
    assert referring(shelves.store).claims == {claim.id}
    fingerprint_log.release(shelves.store, claim, "it failed")
    assert kept(shelves, record) is None


def test_who_holds_a_claim_without_a_sign_of_life_computes_nothing(shelves, monkeypatch):
    claim = fingerprint_log.claim(shelves.store, "c" * 64, ELSEWHERE)
    monkeypatch.setattr(module, "_SILENT", 0.0)
    assert referring(shelves.store).claims == set()
    monkeypatch.undo()
    shelves.store.write(layout.beat(claim.fingerprint, claim.id), b"beat")
    assert referring(shelves.store).claims == {claim.id}


def test_a_holder_whose_process_has_ended_computes_nothing(shelves):
    def claim():
        fingerprint_log.claim(shelves.store, "c" * 64, Owner.here("p", "r1", "train"))

    process = multiprocessing.get_context("fork").Process(target=claim)
    process.start()
    process.join()
    assert referring(shelves.store).claims == set()


def test_the_code_and_the_lock_of_steps_to_come_are_kept(shelves):
    code, lock = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    spec = replace(shelves.spec("train"), code=code, environment=EnvironmentSpec(lock=lock))
    shelves.pin("r1")
    shelves.planned("r1", Decision("run", spec))
    assert referring(shelves.store).snapshots == {code, lock}


def test_what_a_step_reads_that_runs_without_a_claim_is_kept(shelves):
    record = shelves.made()
    uri = shelves.store.uri(f"{shelves.folder(record)}/out")
    shelves.store.write(layout.work_spec("c1"), json.dumps({"inputs": {"x": {"uri": uri}}}).encode())
    shelves.store.write(layout.work_spec("c2"), b"{")
    assert kept(shelves, record) == "a step that is running reads it"


def test_what_a_step_read_whose_claim_has_ended_is_not_kept(shelves):
    record = shelves.made()
    claim = fingerprint_log.claim(shelves.store, "c" * 64, ELSEWHERE)
    uri = shelves.store.uri(f"{shelves.folder(record)}/out")
    shelves.store.write(layout.work_spec(claim.id), json.dumps({"inputs": {"x": {"uri": uri}}}).encode())
    assert kept(shelves, record) is not None
    fingerprint_log.release(shelves.store, claim, "it failed")
    assert kept(shelves, record) is None


def test_rule_10_a_plan_of_a_newer_version_is_refused_as_nobody_knows_what_it_uses(shelves):
    shelves.pin("r1")
    runs.write_plan(shelves.store, "p", "r1", {"format": 99, "steps": []})
    with pytest.raises(RecordFormatError, match="format 99"):
        referring(shelves.store)
