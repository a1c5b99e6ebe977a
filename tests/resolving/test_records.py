from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.resolving.records import found, make_body, outputs_of, was_made_by
from airflow_mlpipe.runtime.protocol import (
    Content,
    EnvironmentSpec,
    InputSpec,
    OutputRef,
    OutputSpec,
    StepResult,
    StepSpec,
    load_spec,
)
from airflow_mlpipe.store.entries import Record

MADE_BY = {"pipeline": "p", "run": "r1", "step": "train"}
OUTPUTS = {
    "model": OutputRef("outputs/f/c/model", Content("file", "sha256:" + "a" * 64, 4, 1)),
    "data": OutputRef("s3://bucket/x", Content("folder", "version:etag:1", 9, 2), "landing", "etag:1"),
}
SPEC = StepSpec(
    "p",
    "train",
    "command",
    (("train",),),
    inputs={"data": InputSpec("file:///x", Content("file", "sha256:" + "b" * 64, 1, 1))},
    outputs={"model": OutputSpec("file"), "data": OutputSpec()},
    parameters={"c": 1.0, "n": 1},
    environment=EnvironmentSpec(secrets={"TOKEN": "variable:token"}),
)
RESULT = StepResult(0, seconds=1.5, observed={"numpy": "2.1.0"}, metrics={"auc": 0.9}, outputs=OUTPUTS, tail=("bye",))


def record(**changes):
    body = json.loads(json.dumps(make_body(SPEC, RESULT, MADE_BY), allow_nan=False))
    return Record("f" * 64, 2, "c", {**body, **changes}, "2026-05-01T00:00:00.000+00:00")


def test_a_record_holds_what_a_later_run_wants_to_know_and_nothing_the_step_printed():
    body = make_body(SPEC, RESULT, MADE_BY)
    assert body.keys() == {
        "body",
        "components",
        "spec",
        "outputs",
        "metrics",
        "observed",
        "seconds",
        "made_by",
    }
    assert "bye" not in json.dumps(body)


def test_rule_1_a_record_holds_the_components_that_its_fingerprint_was_made_of():
    assert fingerprint(record().body["components"]) == fingerprint(components(SPEC))


def test_the_spec_in_a_record_can_be_run_again():
    assert load_spec(record().body["spec"]) == SPEC


def test_outputs_are_read_back_as_they_were():
    assert outputs_of(record()) == OUTPUTS


def test_a_record_as_the_planner_sees_it():
    seen = found(record(), OUTPUTS, ("model",))
    assert (seen.number, seen.outputs, seen.undelivered) == (2, OUTPUTS, ("model",))
    assert (seen.metrics, seen.seconds, seen.made_by) == ({"auc": 0.9}, 1.5, MADE_BY)


@pytest.mark.parametrize("left_out", ["metrics", "seconds", "made_by"])
def test_what_an_older_record_lacks_is_empty(left_out):
    body = {key: value for key, value in record().body.items() if key != left_out}
    assert not getattr(found(replace(record(), body=body), OUTPUTS), left_out)


def test_a_record_of_a_newer_version_is_refused_by_name():
    with pytest.raises(RecordFormatError, match=r"record 2 of fingerprint f+ has format 2, .* upgrade it"):
        outputs_of(record(body=2))


@pytest.mark.parametrize(
    "outputs",
    [None, [], "model", {"model": None}, {"model": {}}, {"model": {"path": "a", "content": {}}}, {"model": {"x": 1}}],
)
def test_rule_10_a_damaged_record_is_refused_by_name(outputs):
    with pytest.raises(RecordFormatError, match=r"record 2 of fingerprint f+ is damaged"):
        outputs_of(record(outputs=outputs))
    with pytest.raises(RecordFormatError, match=r"record 2 of fingerprint f+ is damaged"):
        outputs_of(replace(record(), body={}))


def test_a_record_was_made_by_one_run_of_one_pipeline():
    assert was_made_by(record(), "p", "r1")
    assert not was_made_by(record(), "p", "r2")
    assert not was_made_by(record(), "q", "r1")
    assert not was_made_by(record(made_by={}), "p", "r1")
