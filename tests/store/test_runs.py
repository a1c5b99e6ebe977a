from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout, runs

RUN = "scheduled__2026-01-01T00:00:00+00:00"
LONG = "long " * 60


def test_a_plan_is_kept(store):
    assert runs.read_plan(store, "digits", RUN) is None
    runs.write_plan(store, "digits", RUN, {"tasks": [1]})
    assert runs.read_plan(store, "digits", RUN) == {"pipeline": "digits", "run": RUN, "tasks": [1]}
    runs.write_plan(store, "digits", RUN, {"tasks": [2]})
    assert runs.read_plan(store, "digits", RUN)["tasks"] == [2]


def test_a_pin_is_kept(store):
    assert runs.read_pin(store, "digits", RUN) is None
    runs.write_pin(store, "digits", RUN, {"since": "now"})
    assert runs.read_pin(store, "digits", RUN) == {"pipeline": "digits", "run": RUN, "since": "now"}


def test_there_is_a_note_a_step(store):
    assert runs.read_notes(store, "digits", RUN) == {}
    for step in ("train", "Größe", LONG):
        runs.write_note(store, "digits", RUN, step, {"outcome": "ran"})
    runs.write_note(store, "digits", RUN, "train", {"outcome": "reused"})
    assert runs.read_note(store, "digits", RUN, "train") == {"step": "train", "outcome": "reused"}
    assert runs.read_note(store, "digits", RUN, "other") is None
    assert {step: note["outcome"] for step, note in runs.read_notes(store, "digits", RUN).items()} == {
        "train": "reused",
        "Größe": "ran",
        LONG: "ran",
    }


def test_only_steps_that_have_run_have_a_latest(store):
    steps = [f"step {number}" for number in range(50)]
    assert runs.read_latest(store, "digits", steps) == {}
    for step in steps[::2]:
        runs.write_latest(store, "digits", step, {"of": step})
    runs.write_latest(store, "other", steps[1], {"of": "another pipeline"})
    assert runs.read_latest(store, "digits", steps) == {step: {"of": step} for step in steps[::2]}


def test_runs_and_pipelines_are_listed_by_name(store):
    assert runs.pipelines(store) == runs.runs(store, "digits") == []
    for pipeline, run in [("digits", RUN), ("digits", LONG), ("a b/c", "1"), (LONG, LONG)]:
        runs.write_pin(store, pipeline, run, {})
    assert runs.pipelines(store) == sorted(["digits", "a b/c", LONG])
    assert runs.runs(store, "digits") == sorted([RUN, LONG])
    assert runs.runs(store, LONG) == [LONG]


def test_a_damaged_plan_is_named(store):
    store.write(layout.plan("digits", RUN), b'{"tasks":')
    with pytest.raises(RecordFormatError, match=r"plan\.json is damaged"):
        runs.read_plan(store, "digits", RUN)


def test_rule_10_a_damaged_latest_is_left_out(store):
    for step in ("train", "test"):
        runs.write_latest(store, "digits", step, {"of": step})
    store.write(layout.latest("digits", "train"), b'{"of":')
    assert runs.read_latest(store, "digits", ["train", "test"]) == {"test": {"of": "test"}}
