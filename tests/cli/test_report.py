from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.cli.report import of_plan, of_run, output_to_json, place_of
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.runtime.protocol import Content, OutputRef
from airflow_mlpipe.store.store import Store
from tests.cli.helpers import failed_note, note, planned

OUTPUT = OutputRef("outputs/f/c/clean", Content("file", "sha256:1", 3, 1))


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


def reusing(plan, *names):
    """Return the plan with some steps decided as reused."""
    found = Found(1, {"clean": OUTPUT}, {"rmse": 0.5}, 2.5, {"run": "earlier"})
    decisions = {
        name: replace(d, choice="reuse", found=found, reasons=(), fingerprint="f") if name in names else d
        for name, d in plan.decisions.items()
    }
    return replace(plan, decisions=decisions)


def outcomes(report):
    return {step.step: step.outcome for step in report.steps}


def test_what_has_a_note_is_as_the_note_says_and_in_the_order_of_the_definition(project, store):
    report = of_run(planned(project), {"second": note(), "first": note("waited")})
    assert outcomes(report) == {"first": "waited", "second": "ran"}
    assert list(outcomes(report)) == ["first", "second"]
    assert report.state == "success"
    assert report.to_json(store)["steps"][0]["seconds"] == 1.5


def test_what_the_plan_reused_has_the_outputs_of_its_record(project, store):
    report = of_run(reusing(planned(project), "first", "second"), {})
    assert outcomes(report) == {"first": "reused", "second": "reused"}
    first = report.to_json(store)["steps"][0]
    assert first["outputs"]["clean"]["uri"] == store.uri(OUTPUT.path)
    assert (first["seconds"], first["metrics"], first["reasons"]) == (2.5, {"rmse": 0.5}, [])


def test_a_failed_step_says_why_and_keeps_what_follows_from_running(project):
    report = of_run(planned(project), {"first": failed_note("no disk")})
    first, second = report.steps
    assert (first.outcome, first.error) == ("failed", "no disk")
    assert second.outcome == "not_run"
    assert [reason.what for reason in second.reasons] == ["first has no result"]
    assert report.state == "failed"


def test_a_step_that_failed_before_it_could_leave_a_note_is_failed(project):
    report = of_run(planned(project), {}, {"first": "there is no data"})
    assert outcomes(report) == {"first": "failed", "second": "not_run"}
    assert report.steps[0].error == "there is no data"


def test_a_run_has_just_the_promised_keys(project, store):
    data = of_run(planned(project), {"first": note(), "second": failed_note()}).to_json(store)
    assert list(data) == ["pipeline", "run_id", "state", "steps"]
    for step in data["steps"]:
        assert list(step) == ["step", "outcome", "reasons", "seconds", "fingerprint", "outputs", "metrics"]
        assert all(list(reason) == ["component", "what", "old", "new"] for reason in step["reasons"])


def test_a_plan_has_decisions_in_place_of_outcomes(project, store):
    data = of_plan(reusing(planned(project), "first")).to_json(store)
    keys = ["step", "decision", "depends_on", "reasons", "seconds", "fingerprint", "outputs", "metrics"]
    assert [list(step) for step in data["steps"]] == [keys, keys]
    assert [step["decision"] for step in data["steps"]] == ["reuse", "depends"]
    assert data["steps"][1]["depends_on"] == ["first"]
    assert data["run_id"] is None


def test_an_output_lies_in_the_store_or_where_a_transfer_put_it(store):
    moved = replace(OUTPUT, path="s3://bucket/data.csv", token="etag:1", datastore="lake")
    assert output_to_json(OUTPUT, store) == {
        "uri": f"file://{store.root}/outputs/f/c/clean",
        "digest": "sha256:1",
        "size": 3,
        "files": 1,
    }
    assert place_of(OUTPUT, store) == f"{store.root}/outputs/f/c/clean"
    assert place_of(moved, store) == "s3://bucket/data.csv"
