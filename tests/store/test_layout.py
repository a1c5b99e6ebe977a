from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.store import layout

FP = "ab" + "0" * 62


def test_the_layout_is_pinned():
    assert layout.log_entry(FP, 7) == f"log/ab/{FP}/000007.json"
    assert layout.beat(FP, "c1") == f"beat/{FP}/c1"
    assert layout.output(FP, "c1", "model") == f"outputs/{FP}/c1/model"
    assert layout.snapshot("sha256:" + FP) == f"snapshots/{FP}.tar"
    assert layout.snapshot_manifest(FP) == f"snapshots/{FP}.json"
    assert layout.blob("sha256:" + FP) == f"snapshots/{FP}.blob"
    assert (
        layout.plan("digits", "manual__2026-01-01T00:00:00") == "runs/digits/manual__2026-01-01T00=3A00=3A00/plan.json"
    )
    assert layout.pin("digits", "r") == "runs/digits/r/pin.json"
    assert layout.note("digits", "r", "train") == "runs/digits/r/notes/train.json"
    assert layout.latest("digits", "train") == "latest/digits/train.json"
    assert layout.work("c1") == "work/c1"


@given(st.integers(1, 10**9))
def test_an_entry_tells_its_number(number):
    assert layout.entry_number(layout.log_entry(FP, number).rpartition("/")[2]) == number


@pytest.mark.parametrize("name", [".0f.tmp", "000001.json.tmp", "1.json", "000001", "x000001.json"])
def test_what_is_no_entry_has_no_number(name):
    assert layout.entry_number(name) is None


def test_an_output_tells_its_parts():
    assert layout.output_parts(layout.output(FP, "c1", "model")) == (FP, "c1", "model")
    assert layout.output_parts(layout.output(FP, "c1", "model") + "/a/b") == (FP, "c1", "model")
    assert layout.output_parts("log/ab") is None


@given(st.text(max_size=14))
def test_a_segment_leads_back_to_its_name(name):
    assert layout.name_of(layout.pipeline(name).rpartition("/")[2]) == name


def test_a_name_that_was_cut_is_not_guessed():
    assert layout.name_of(layout.pipeline("é" * 300).rpartition("/")[2]) is None


@pytest.mark.parametrize("part", ["", "..", "../x", "a/b", ".hidden", "a b"])
def test_what_is_no_part_of_a_path_is_refused(part):
    with pytest.raises(ValueError, match="not a part of a path"):
        layout.output(FP, "c1", part)


@pytest.mark.parametrize("digest", ["", "sha256:", "version:1", "sha256:" + "g" * 64, "../" + "0" * 61])
def test_what_is_no_digest_is_refused(digest):
    with pytest.raises(ValueError, match="not a digest"):
        layout.snapshot(digest)


def test_the_layout_of_deliveries_is_pinned():
    assert layout.delivered(FP) == f"delivered/{FP}.json"


def test_the_layout_of_retention_is_pinned():
    assert layout.record_pin(FP) == f"pins/record/{FP}.json"
    assert layout.run_pin("digits", "a:b") == "pins/run/digits/a=3Ab.json"
    assert layout.condemned("work-1") == "condemned/work-1.json"
    assert layout.work_spec("c1") == "work/c1/spec.json"


def test_a_path_below_the_logs_tells_fingerprint_and_number():
    assert layout.log_parts(layout.log_entry(FP, 7).removeprefix("log/")) == (FP, 7)
    assert layout.log_parts(f"ab/{FP}/.0123.tmp") is None
    assert layout.log_parts(f"{FP}/000001.json") is None


def test_a_file_among_the_snapshots_tells_its_digest():
    for path in (layout.snapshot(FP), layout.snapshot_manifest(FP), layout.blob(FP)):
        assert layout.snapshot_digest(path.rpartition("/")[2]) == f"sha256:{FP}"
    assert layout.snapshot_digest(".0123.tmp") is None


def test_a_result_tells_whose_it_is_and_is_no_output():
    assert layout.result(FP, "c1") == f"outputs/{FP}/c1/.result.json"
    assert layout.result_parts(layout.result(FP, "c1")) == (FP, "c1")
    assert layout.output_parts(layout.result(FP, "c1")) is None
    for path in (
        layout.output(FP, "c1", "model"),
        layout.output(FP, "c1", "model") + "/.result.json",
        "log/a/b/.result.json",
    ):
        assert layout.result_parts(path) is None


def test_the_layout_of_what_was_launched_is_pinned():
    assert (
        layout.launched("digits", "a:b", "train[0]")
        == f"runs/digits/a=3Ab/launched/{layout.note('p', 'r', 'train[0]').rpartition('/')[2]}"
    )
