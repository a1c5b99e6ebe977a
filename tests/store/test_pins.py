from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout, pins
from airflow_mlpipe.store.pins import Pin

FP = "ab" * 32
RUN = "manual__2026-01-01T00:00:00+00:00"


def test_what_is_pinned_is_read_with_its_note_and_time(store):
    pins.add(store, Pin(fingerprint=FP, note="the paper's"))
    pins.add(store, Pin(pipeline="digits", run=RUN))
    record, run = pins.read(store)
    assert (record.fingerprint, record.note) == (FP, "the paper's")
    assert (run.pipeline, run.run) == ("digits", RUN)
    assert record.time
    assert run.time


def test_a_pin_of_the_same_replaces_the_earlier_one(store):
    pins.add(store, Pin(fingerprint=FP, note="first"))
    pins.add(store, Pin(fingerprint=FP, note="second"))
    assert [pin.note for pin in pins.read(store)] == ["second"]


def test_a_pin_is_taken_away_once(store):
    pins.add(store, Pin(pipeline="digits", run=RUN))
    assert pins.remove(store, Pin(pipeline="digits", run=RUN))
    assert pins.read(store) == []
    assert not pins.remove(store, Pin(pipeline="digits", run=RUN))


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"unknown": 1}'])
def test_rule_10_a_damaged_pin_is_named_as_nobody_knows_what_it_kept(store, content):
    store.write(layout.record_pin(FP), content)
    with pytest.raises(RecordFormatError, match=f"{FP}.json is damaged"):
        pins.read(store)
