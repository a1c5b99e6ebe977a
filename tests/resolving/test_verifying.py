from __future__ import annotations

import os

import pytest

from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.verifying import verify_outputs, void_damaged
from airflow_mlpipe.runtime.protocol import OutputSpec
from airflow_mlpipe.store.log import Log, evict, void
from tests.resolving.shelves import Shelves


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Shelves(tmp_path)


def verified(shelves, **options):
    return verify_outputs(shelves.store, Inventory.read(shelves.store).items, **options)


def place(shelves, record, name="out"):
    return shelves.project.root / "store" / shelves.folder(record) / name


def change(path, text):
    path.chmod(0o644)
    path.write_text(text)


def test_records_whose_outputs_are_there_are_whole(shelves):
    shelves.made(c=1)
    shelves.made(c=2, spec_=shelves.spec("test", outputs={"a": OutputSpec(), "b": OutputSpec()}))
    found = verified(shelves, digests=True)
    assert (found.records, found.digests, found.damaged) == (2, 2, ())


def test_what_is_gone_or_of_another_size_is_found_without_reading(shelves):
    gone, cut, whole = shelves.made(c=1), shelves.made(c=2), shelves.made(c=3)
    place(shelves, gone).unlink()
    change(place(shelves, cut), "m")
    found = {damage.item.fingerprint: damage.what for damage in verified(shelves).damaged}
    assert found == {
        gone.fingerprint: "output out: it is gone",
        cut.fingerprint: "output out: it is 1 bytes instead of 5",
    }
    assert whole.fingerprint not in found


def test_other_bytes_of_the_same_size_are_found_by_digest_only(shelves):
    record = shelves.made()
    change(place(shelves, record), "other")
    assert verified(shelves).damaged == ()
    (damage,) = verified(shelves, digests=True).damaged
    assert damage.what == "output out: its content is not what was published"


def test_a_sample_reads_only_so_many(shelves):
    for c in range(5):
        shelves.made(c=c)
    assert verified(shelves, digests=True, sample=2).digests == 2
    assert verified(shelves, digests=True, sample=9).digests == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(shelves):
    record = shelves.made()
    place(shelves, record).chmod(0)
    assert "cannot be read" in verified(shelves, digests=True).damaged[0].what


def test_what_was_evicted_is_not_looked_for(shelves):
    record = shelves.made()
    evict(shelves.store, record.fingerprint, record.number, "for the room")
    place(shelves, record).unlink()
    found = verified(shelves, digests=True)
    assert (found.records, found.elsewhere, found.damaged) == (0, 1, ())


def test_what_was_voided_while_it_was_looked_at_is_no_damage(shelves):
    record = shelves.made()
    items = Inventory.read(shelves.store).items
    void(shelves.store, record.fingerprint, record.number, "pruned")
    place(shelves, record).unlink()
    assert verify_outputs(shelves.store, items).damaged == ()


def test_damaged_records_are_voided_with_what_is_wrong(shelves):
    record = shelves.made()
    place(shelves, record).unlink()
    void_damaged(shelves.store, verified(shelves).damaged)
    log = Log.read(shelves.store, record.fingerprint)
    assert log.records == ()
    assert log.entries[-1].data["reason"] == "output out: it is gone"
