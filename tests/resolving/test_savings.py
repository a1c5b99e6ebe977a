from __future__ import annotations

import pytest

from airflow_mlpipe.resolving.savings import Saved, add_up, savings
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store.journal import Entry, Use


def entry(run, *uses, pipeline="p", time="2026-01-31T10:00:00+00:00"):
    return Entry(pipeline, run, time, {}, uses)


def reused(step, seconds, outcome="reused"):
    return Use(step, outcome, "f", 1, seconds)


def test_what_was_reused_or_waited_for_saved_what_it_had_taken():
    entries = [entry("r1", reused("a", 10.0), reused("b", 5.0, "waited"), reused("c", 7.0, "ran"), Use("d", "failed"))]
    assert add_up(entries, "pipeline") == [Saved("p", 2, 15.0, 1)]


def test_the_last_of_a_step_of_a_run_counts_once():
    """The plan reused it, and it reused again in its turn; another failed first and ran when it was tried again."""
    newest_first = [
        entry("r1", reused("a", 10.0)),
        entry("r1", reused("b", 3.0, "ran")),
        entry("r1", Use("b", "failed")),
    ]
    newest_first.append(entry("r1", reused("a", 10.0)))
    assert add_up(newest_first, "pipeline") == [Saved("p", 1, 10.0, 1)]


def test_a_sensor_that_waited_for_an_output_of_others_saved_nothing():
    entries = [entry("r1", reused("wait_for_model", 0.0, "waited"), reused("a", 10.0))]
    assert add_up(entries, "step") == [Saved("p.a", 1, 10.0, 0)]


ENTRIES = [
    entry("r3", reused("a", 1.0), time="2026-02-01T00:00:00+00:00"),
    entry("r2", reused("a", 2.0), reused("b", 4.0)),
    entry("r1", reused("a", 8.0)),
    entry("r1", reused("a", 16.0), pipeline="q"),
]


@pytest.mark.parametrize(
    ("by", "lines"),
    [
        ("pipeline", {"p": 15.0, "q": 16.0}),
        ("step", {"p.a": 11.0, "p.b": 4.0, "q.a": 16.0}),
        ("run", {"q / r1": 16.0, "p / r1": 8.0, "p / r2": 6.0, "p / r3": 1.0}),
        ("month", {"2026-01": 30.0, "2026-02": 1.0}),
    ],
)
def test_savings_are_added_up_in_the_way_asked_for(by, lines):
    found = add_up(ENTRIES, by)
    assert [(line.name, line.seconds) for line in found] == list(lines.items())


def test_steps_that_only_failed_make_no_line():
    assert add_up([entry("r1", Use("a", "failed"))], "pipeline") == []


def test_the_journals_of_all_pipelines_are_read_from_a_day_on(tmp_path):
    from airflow_mlpipe.store.store import Store

    store = Store.open(str(tmp_path))
    for pipeline in ("p", "q"):
        runs.write_pin(store, pipeline, "r1", {})
        journal.append(store, pipeline, "r1", {}, [reused("a", 2.0)])
    assert savings(store, "pipeline") == [Saved("p", 1, 2.0, 0), Saved("q", 1, 2.0, 0)]
    assert savings(store, "pipeline", since="9999-01-01") == []
