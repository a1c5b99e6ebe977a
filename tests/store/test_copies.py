from __future__ import annotations

import gzip
from dataclasses import replace

import pytest

from airflow_mlpipe.store import layout, runs
from airflow_mlpipe.store.copies import Copies
from airflow_mlpipe.store.log import Log, Owner, claim, commit, void

KEYS = [f"{number:02x}" * 32 for number in range(5)]
ME = Owner.here("churn", "monday", "train", "churn/monday/train/-1", 1)


@pytest.fixture
def made(store):
    return {key: commit(store, claim(store, key, ME), {"key": key}) for key in KEYS}


def read(store, keys=KEYS):
    copies = Copies.read(store, "churn")
    logs = Log.read_many(copies, [*keys, "ff" * 32])
    copies.keep()
    return {key: log.records for key, log in logs.items()}


def test_logs_that_are_read_at_once_are_as_each_read_alone(store, made):
    expected = {key: (record,) for key, record in made.items()} | {"ff" * 32: ()}
    assert read(store) == expected
    assert read(store) == expected
    void(store, KEYS[0], made[KEYS[0]].number, "damaged")
    again = commit(store, claim(store, KEYS[1], ME), {"again": 1})
    assert read(store) == expected | {KEYS[0]: (), KEYS[1]: (again, made[KEYS[1]])}


def test_what_steps_were_made_from_is_read_anew_where_it_changed(store):
    for time in range(3):
        for step in ("train", "te/st", "not asked for"):
            runs.write_latest(store, "churn", step, {"of": time})
        for _ in range(2):
            copies = Copies.read(store, "churn")
            found = runs.read_latest(store, "churn", ["train", "te/st", "gone"], copies)
            assert found == {"train": {"of": time}, "te/st": {"of": time}}
            copies.keep()


def test_where_nothing_is_far_no_copies_are_kept(local_store, memory_store):
    for store in (local_store, memory_store):
        commit(store, claim(store, KEYS[0], ME), {})
        read(store, KEYS[:1])
        assert store.names("copies") == []


@pytest.mark.s3
def test_logs_that_did_not_change_are_read_in_a_few_requests(s3_store, network):
    made = {key: commit(s3_store, claim(s3_store, key, ME), {"key": key}) for key in KEYS}
    with network.counting() as seen:
        read(s3_store)
    assert seen == {"GET": 1 + 2 * len(KEYS), "LIST": 1, "PUT": 1}
    with network.counting() as seen:
        assert read(s3_store)[KEYS[0]] == (made[KEYS[0]],)
    assert seen == {"GET": 1, "LIST": 1}
    void(s3_store, KEYS[0], 2, "damaged")
    with network.counting() as seen:
        assert read(s3_store)[KEYS[0]] == ()
    assert seen == {"GET": 2, "LIST": 1, "PUT": 1}


@pytest.mark.s3
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{"),
        gzip.compress(b'{"format": 2}'),
        gzip.compress(b"[]"),
        gzip.compress(b"{}")[:-9],
        gzip.compress(b"{}")[:10] + b"\xff\xff\xff",
    ],
)
def test_damaged_copies_are_none(s3_store, content):
    record = commit(s3_store, claim(s3_store, KEYS[0], ME), {})
    s3_store.write(layout.copies("churn"), content)
    assert read(s3_store, KEYS[:1])[KEYS[0]] == (record,)
    assert Copies.read(s3_store, "churn").kept


@pytest.mark.s3
def test_rule_10_an_entry_that_is_damaged_after_it_was_copied_makes_no_record(s3_store):
    commit(s3_store, claim(s3_store, KEYS[0], ME), {})
    read(s3_store, KEYS[:1])
    s3_store.write(layout.log_entry(KEYS[0], 2), b"\xff damaged")
    assert read(s3_store, KEYS[:1])[KEYS[0]] == ()
    s3_store.remove(layout.log_folder(KEYS[0]))
    assert read(s3_store, KEYS[:1])[KEYS[0]] == ()


@pytest.mark.s3
def test_only_what_was_used_last_is_kept(s3_store):
    for key in KEYS:
        commit(s3_store, claim(s3_store, key, replace(ME, step=key)), {})
    read(s3_store)
    read(s3_store, KEYS[:2])
    assert len(Copies.read(s3_store, "churn").kept) == 4
