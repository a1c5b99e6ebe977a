from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import journal, layout
from airflow_mlpipe.store.journal import Use

MOMENTS = {"logical_date": "2025-01-31T00:00:00+00:00", "run_after": "2025-02-01T00:00:00+00:00"}


def test_what_was_written_is_read_newest_first(store):
    for number in range(3):
        journal.append(store, "p", f"run {number}", MOMENTS, [Use("train", "ran", "ab", number)])
    entries = list(journal.newest_first(store, "p"))
    assert [entry.run for entry in entries] == ["run 2", "run 1", "run 0"]
    assert entries[0].moments == MOMENTS
    assert entries[0].uses == (Use("train", "ran", "ab", 2),)


def test_everything_of_a_step_comes_back(store):
    use = Use("a", "reused", "ab", 1, 2.5, {"m": {"path": "x"}}, {"auc": 0.9}, {"c": 1.0})
    journal.append(store, "p", "r", {}, [use, Use("b", "failed")])
    assert next(journal.newest_first(store, "p")).uses == (use, Use("b", "failed"))


def test_steps_that_ended_together_are_one_file(store):
    journal.append(store, "p", "r", {}, [Use("a", "reused"), Use("b", "reused")])
    (day,) = journal.days(store, "p")
    assert len(journal.names(store, "p", day)) == 1


def test_nothing_is_written_for_no_steps(store):
    journal.append(store, "p", "r", {}, [])
    assert journal.days(store, "p") == []


def test_days_before_the_one_asked_for_are_left_out(store):
    journal.append(store, "p", "r", {}, [Use("a", "ran")])
    (day,) = journal.days(store, "p")
    assert [entry.run for entry in journal.newest_first(store, "p", since=day)] == ["r"]
    assert list(journal.newest_first(store, "p", since="9999-01-01")) == []


def test_pipelines_do_not_see_each_other(store):
    journal.append(store, "p", "r", {}, [Use("a", "ran")])
    assert list(journal.newest_first(store, "q")) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b'{"format": 1, "steps": [{"no": 1}]}'])
def test_a_damaged_entry_is_left_out(store, content):
    journal.append(store, "p", "r", {}, [Use("a", "ran")])
    (day,) = journal.days(store, "p")
    store.write(layout.journal_entry("p", day, "000000.0-ab"), content)
    assert [entry.run for entry in journal.newest_first(store, "p")] == ["r"]


def test_an_entry_of_a_newer_version_is_refused_by_name(store):
    store.write(layout.journal_entry("p", "2025-01-31", "000000.0-ab"), b'{"format": 99}')
    with pytest.raises(RecordFormatError, match="upgrade"):
        list(journal.newest_first(store, "p"))


def test_more_entries_than_are_read_at_once_keep_their_order(store):
    for number in range(150):
        journal.append(store, "p", str(number), {}, [Use("a", "ran")])
    assert [entry.run for entry in journal.newest_first(store, "p")] == [str(n) for n in reversed(range(150))]
