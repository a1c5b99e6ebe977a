from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.launched import Launched
from airflow_mlpipe.resolving.leftovers import Listing, leftovers
from airflow_mlpipe.resolving.referring import referring
from airflow_mlpipe.runtime.protocol import EnvironmentSpec
from airflow_mlpipe.store import layout, pins, runs, snapshots
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.pins import Pin
from tests.resolving.shelves import Shelves

ELSEWHERE = Owner("another host", "", "", "p", "r1", "train", "p/r1/train/-1", 1)
FP = "c" * 64


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def left(shelves):
    """Return what nobody needs, by kind."""
    listing = Listing.read(shelves.store)
    inventory = Inventory.read(shelves.store)
    refers = referring(shelves.store, logs=inventory.logs)
    found = leftovers(shelves.store, listing, inventory, refers)
    kinds: dict[str, list[str]] = {}
    for leftover in found:
        kinds.setdefault(leftover.kind, []).append(leftover.path)
    return kinds


def publish(shelves, fingerprint, claim):
    path = layout.output(fingerprint, claim, "out")
    shelves.store.write(path, b"12345")
    return layout.outputs(fingerprint, claim)


def test_the_outputs_of_a_record_are_no_leftover(shelves):
    shelves.made()
    assert left(shelves) == {}


def test_the_outputs_of_a_voided_record_are_a_leftover_with_the_reason(shelves):
    record = shelves.made()
    fingerprint_log.void(shelves.store, record.fingerprint, record.number, "it was too old")
    inventory = Inventory.read(shelves.store)
    refers = referring(shelves.store, logs=inventory.logs)
    (found,) = leftovers(shelves.store, Listing.read(shelves.store), inventory, refers)
    assert (found.kind, found.path, found.size) == ("outputs", shelves.folder(record), 5)
    assert found.why == "its record was voided: it was too old"


def test_evicted_outputs_are_a_leftover(shelves):
    record = shelves.made()
    fingerprint_log.evict(shelves.store, record.fingerprint, record.number, "for the room")
    assert left(shelves) == {"outputs": [shelves.folder(record)]}


def test_outputs_somebody_refers_to_are_none_even_where_their_record_was_voided(shelves):
    record = shelves.made()
    fingerprint_log.void(shelves.store, record.fingerprint, record.number, "it was too old")
    shelves.noted("r1", "train", record=record)
    pins.add(shelves.store, Pin(pipeline="p", run="r1"))
    assert left(shelves) == {}


def test_what_somebody_publishes_just_now_is_no_leftover(shelves):
    claim = fingerprint_log.claim(shelves.store, FP, ELSEWHERE)
    path = publish(shelves, FP, claim.id)
    shelves.store.write(layout.beat(FP, claim.id), b"beat")
    shelves.store.write(layout.work_spec(claim.id), b"{}")
    assert left(shelves) == {}
    fingerprint_log.release(shelves.store, claim, "it failed")
    assert left(shelves) == {
        "outputs": [path],
        "beats": [layout.beat(FP, claim.id)],
        "work": [layout.work(claim.id)],
    }


def test_what_a_fenced_writer_published_is_a_leftover(shelves):
    late = fingerprint_log.claim(shelves.store, FP, ELSEWHERE)
    path = publish(shelves, FP, late.id)
    fingerprint_log.take_over(shelves.store, FP, late, replace(ELSEWHERE, run="r2"))
    assert left(shelves) == {"outputs": [path]}


def test_outputs_no_log_knows_may_be_those_of_a_step_that_takes_no_claim(shelves):
    path = publish(shelves, FP, "c1")
    assert left(shelves) == {"unknown": [path]}


def test_outputs_in_a_damaged_log_may_be_those_of_a_record(shelves):
    record = shelves.made()
    shelves.store.write(layout.log_entry(record.fingerprint, record.number), b"{")
    assert left(shelves) == {"unknown": [shelves.folder(record)]}


def test_nothing_of_a_newer_version_is_a_leftover(shelves):
    record = shelves.made()
    shelves.store.write(layout.log_entry(record.fingerprint, 2), b'{"format": 99}')
    snapshots.put_blob(shelves.store, b"a lock it may name")
    assert left(shelves) == {}


def test_a_step_directory_without_a_claim_stays_while_a_run_is_under_way(shelves):
    shelves.store.write(layout.work_spec("c1"), b"{}")
    assert left(shelves) == {"work": [layout.work("c1")]}
    shelves.pin("r1")
    assert left(shelves) == {}


def test_code_that_no_record_no_run_and_no_explanation_names_is_a_leftover(shelves):
    lock = snapshots.put_blob(shelves.store, b"a lock")
    assert left(shelves) == {"snapshots": [layout.blob(lock)]}
    shelves.made(spec_=shelves.spec("train", environment=EnvironmentSpec(lock=lock)))
    assert left(shelves) == {}


def test_code_that_an_explanation_compares_with_is_no_leftover(shelves):
    lock = snapshots.put_blob(shelves.store, b"the code of last time")
    runs.write_latest(shelves.store, "p", "train", {"components": {"code": lock}})
    shelves.store.write(layout.latest("p", "test"), b"{")
    shelves.store.write(layout.latest("p", "last"), json.dumps({"components": None}).encode())
    assert left(shelves) == {}


def test_no_code_is_a_leftover_while_a_run_plans(shelves):
    snapshots.put_blob(shelves.store, b"a lock")
    shelves.pin("r1")
    assert left(shelves) == {}


def test_files_that_are_being_written_are_no_leftovers(shelves):
    for path in (f"beat/{FP}/.0123.tmp", "snapshots/.0123.tmp", "outputs/.0123.tmp", "work/.0123/x"):
        shelves.store.write(path, b"")
    assert left(shelves) == {}


def taken_over(shelves):
    """Return the folder of a complete result whose holder was lost, and the claim that holds now."""
    first = fingerprint_log.claim(shelves.store, FP, ELSEWHERE)
    folder = publish(shelves, FP, first.id)
    shelves.store.write(layout.result(FP, first.id), b"{}")
    return folder, fingerprint_log.take_over(shelves.store, FP, first, replace(ELSEWHERE, run="r2"))


def test_a_complete_result_stays_while_somebody_holds_the_fingerprint_who_may_record_it(shelves):
    folder, second = taken_over(shelves)
    assert left(shelves) == {}
    fingerprint_log.release(shelves.store, second)
    assert left(shelves) == {"outputs": [folder]}


def test_outputs_without_a_result_are_a_leftover_though_somebody_holds_the_fingerprint(shelves):
    first = fingerprint_log.claim(shelves.store, FP, ELSEWHERE)
    folder = publish(shelves, FP, first.id)
    assert fingerprint_log.take_over(shelves.store, FP, first, replace(ELSEWHERE, run="r2"))
    assert left(shelves) == {"outputs": [folder]}


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_published_under_a_lost_claim_stays_while_the_next_holder_goes_on_with_its_work(shelves, damaged):
    first = fingerprint_log.claim(shelves.store, FP, ELSEWHERE)
    folder = publish(shelves, FP, first.id)
    second = fingerprint_log.take_over(shelves.store, FP, first, replace(ELSEWHERE, run="r2"))
    if damaged:
        shelves.store.write(layout.launched("p", "r2", second.owner.step), b"{")
    else:
        Launched(FP, second.id, first.id, shelves.spec("train")).write(shelves.store, second.owner)
    assert left(shelves) == {}
    fingerprint_log.release(shelves.store, second)
    assert left(shelves) == {"outputs": [folder]}


def test_outputs_that_another_claim_has_recorded_are_no_leftover_until_that_record_is_voided(shelves):
    folder, second = taken_over(shelves)
    record = fingerprint_log.commit(shelves.store, second, {"outputs": {}}, adopted=folder.rpartition("/")[2])
    assert left(shelves) == {}
    fingerprint_log.void(shelves.store, FP, record.number, "it was too old")
    assert left(shelves) == {"outputs": [folder]}
