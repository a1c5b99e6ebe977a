from __future__ import annotations

import pytest

from airflow_mlpipe.store import deliveries
from airflow_mlpipe.store.store import Store

FILES = {"a.csv": "sha256:1", "sub/ü b.csv": "sha256:2", "": "sha256:3"}


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def test_what_was_delivered_is_read_back_by_its_destination(store):
    deliveries.write(store, "s3://bucket/x", FILES)
    assert deliveries.read(store, "s3://bucket/x") == FILES
    assert deliveries.read(store, "s3://bucket/x/") == {}


def test_only_what_the_last_delivery_left_counts(store):
    deliveries.write(store, "file:///out", FILES)
    deliveries.write(store, "file:///out", {"b": "sha256:4"})
    assert deliveries.read(store, "file:///out") == {"b": "sha256:4"}


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 2, "files": {"a": "sha256:1"}}', b'{"format": 1}'])
def test_rule_10_a_note_that_cannot_be_read_says_that_nothing_is_ours(store, content):
    deliveries.write(store, "file:///out", FILES)
    (note,) = (store.local_root / "delivered").iterdir()
    note.write_bytes(content)
    assert deliveries.read(store, "file:///out") == {}
