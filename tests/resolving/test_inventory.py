from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.resolving.inventory import Inventory, read_logs
from airflow_mlpipe.runtime.protocol import OutputSpec, StepSpec
from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store.entries import sealed
from airflow_mlpipe.store.log import Log, evict, void
from tests.resolving.shelves import Shelves, unsealed


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def read(shelves):
    return Inventory.read(shelves.store)


def test_an_empty_store_holds_nothing(shelves):
    assert read(shelves).items == ()


def test_a_record_is_listed_with_what_it_takes_and_who_made_it(shelves):
    record = shelves.made(text="12345", seconds=2.5)
    (item,) = read(shelves).items
    assert (item.name, item.size, item.seconds, item.fingerprint) == ("p.train", 5, 2.5, record.fingerprint)
    assert item.folder == shelves.folder(record)
    assert item.last_used == record.time


def test_records_come_newest_first_without_those_that_were_voided(shelves):
    old, voided, new = shelves.made(c=1), shelves.made(c=2), shelves.made(c=3)
    shelves.age(old)
    void(shelves.store, voided.fingerprint, voided.number, "damaged")
    assert [item.fingerprint for item in read(shelves).items] == [new.fingerprint, old.fingerprint]


def test_who_used_a_record_is_told_the_last_first(shelves):
    record = shelves.made()
    shelves.noted("r1", "train")
    for run in ("r1", "r2"):
        shelves.used(record, run)
    (item,) = read(shelves).items
    assert [(use.run, use.outcome) for use in item.uses] == [("r2", "reused"), ("r1", "reused")]
    assert item.last_used == item.uses[0].time


def test_what_was_evicted_takes_no_room(shelves):
    record = shelves.made()
    evict(shelves.store, record.fingerprint, record.number, "for the room")
    (item,) = read(shelves).items
    assert (item.record.evicted, item.size) == (True, 0)


def test_what_lies_elsewhere_takes_no_room(shelves):
    record = shelves.made(spec_=StepSpec("p", "copy", "data_transfer", outputs={"data": OutputSpec()}))
    path = layout.log_entry(record.fingerprint, record.number)
    entry = unsealed(shelves.store.read(path).replace(b'"path": ', b'"token": "t", "path": '))
    shelves.store.write(path, sealed(entry))
    assert [item.size for item in read(shelves).items] == [0]


def test_logs_are_read_as_each_is_read_alone(shelves):
    records = [shelves.made(c=c) for c in range(5) for _ in range(2)]
    logs, unreadable = read_logs(shelves.store)
    assert unreadable == {}
    assert logs == {r.fingerprint: Log.read(shelves.store, r.fingerprint) for r in records}


def test_a_fingerprint_of_a_newer_version_is_named_and_the_others_are_listed(shelves):
    newer, known = shelves.made(c=1), shelves.made(c=2)
    shelves.store.write(layout.log_entry(newer.fingerprint, 2), b'{"format": 99}')
    inventory = read(shelves)
    assert [item.fingerprint for item in inventory.items] == [known.fingerprint]
    assert "upgrade" in inventory.unreadable[newer.fingerprint]


@pytest.mark.parametrize("body", [{"body": 99}, {"made_by": "nobody", "seconds": "long", "body": 99}])
def test_a_record_that_cannot_be_read_is_listed_without_outputs(shelves, body):
    shelves.made(**body)
    (item,) = read(shelves).items
    assert (item.outputs, item.size) == (None, 0)
    assert item.name in {"p.train", "?.?"}
    assert item.seconds == 0


def test_records_are_found_by_step_by_fingerprint_and_by_its_beginning(shelves):
    old = shelves.made(c=1)
    shelves.age(old)
    new = shelves.made(c=2)
    other = shelves.made("test")
    inventory = read(shelves)

    def found(what):
        return [item.fingerprint for item in inventory.find(what)]

    assert found("p.train") == [new.fingerprint, old.fingerprint]
    assert found(other.fingerprint) == found(other.fingerprint[:12]) == [other.fingerprint]


def test_the_record_of_another_step_is_found_by_the_step_that_took_it(shelves):
    record = shelves.made()
    runs.write_note(shelves.store, "p", "r1", "same", {})
    shelves.used(record, step="same")
    assert [item.fingerprint for item in read(shelves).find("p.same")] == [record.fingerprint]


def test_what_is_not_there_is_refused_with_the_nearest(shelves):
    shelves.made()
    with pytest.raises(MlpipeError, match=r"Did you mean p\.train\?"):
        read(shelves).find("p.tran")
    with pytest.raises(MlpipeError, match="no record of 'abcdef'"):
        read(shelves).find("abcdef")


def test_a_beginning_of_several_fingerprints_is_refused(shelves):
    (one,) = read_one(shelves)
    twin = one.fingerprint[:8] + "0" * 56
    shelves.store.write(layout.log_entry(twin, 1), shelves.store.read(layout.log_entry(one.fingerprint, 1)))
    with pytest.raises(MlpipeError, match="2 fingerprints begin with"):
        read(shelves).find(one.fingerprint[:6])


def read_one(shelves):
    shelves.made()
    return read(shelves).items
