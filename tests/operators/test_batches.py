"""A step with mini-batches in the DAG of a pipeline: real commands; Airflow is kept in memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import DownstreamTasksSkipped

from airflow_mlpipe.dag_factory import make_dag
from airflow_mlpipe.definitions.load import loads
from airflow_mlpipe.exceptions import DataChangedError, DataError, StepError
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.store import Store

DEFINITION = """
name: photos
steps:
  gather:
    kind: command
    command: "cp -r ${{ inputs.raw }} ${{ outputs.images }}"
    inputs: {raw: raw}
    outputs: [images]
  shrink:
    kind: command
    command: |
      mkdir -p ${{ outputs.thumbs }}
      for image in ${{ inputs.images }}/*; do
        grep -q bad $image && exit 3
        tr a-z A-Z < $image > ${{ outputs.thumbs }}/NAME
      done
    inputs: {images: INPUT}
    outputs: [thumbs]
    parallel: {over: "${{ inputs.images }}", mini_batch_size: 2, max_concurrent: 3 MORE}
  report:
    kind: command
    command: "cat ${{ inputs.thumbs }}/* > ${{ outputs.report }}"
    inputs: {thumbs: "${{ steps.shrink.outputs.thumbs }}"}
    outputs: [report]
"""


class Photos:
    """The DAG of a pipeline with mini-batches, and its runs."""

    def __init__(self, airflow, folder):
        self.airflow = airflow
        self.folder = folder
        (folder / "raw").mkdir()
        for name in "abcde":
            self.put(name)
        self.define()

    def put(self, name, text=None):
        (self.folder / "raw" / name).write_text(text or f"{name} image\n")

    def define(self, more="", name="$(basename $image)", given='"${{ steps.gather.outputs.images }}"'):
        text = DEFINITION.replace("MORE", more).replace("NAME", name).replace("INPUT", given)
        self.dag = make_dag(loads(text, self.folder))
        self.dag.fileloc = str(self.folder / "dag.py")

    def task(self, task_id, run, **given):
        return self.airflow.run(self.dag.get_task(task_id), run, **given)

    def plan(self, run):
        try:
            self.task("plan", run)
        except DownstreamTasksSkipped as skipped:
            return sorted(skipped.tasks)
        return []

    def batches(self, run):
        """Run the missing mini-batches; return their numbers."""
        missing = self.task("shrink.plan", run).result
        for index in range(len(missing)):
            with suppress(StepError):
                self.task("shrink.batch", run, map_index=index)
        return [number for chunk in missing for number in chunk]

    def run(self, run):
        """Run all; return which mini-batches ran."""
        if "gather" not in self.plan(run):
            self.task("gather", run)
        missing = self.batches(run)
        self.task("shrink", run)
        return missing

    def thumbs(self, run):
        uri = self.airflow.xcoms["photos", run, "shrink", -1]["thumbs"]["uri"]
        return {path.name: path.read_text() for path in Path(urlsplit(uri).path).iterdir()}

    def table(self, run):
        return self.airflow.xcoms["photos", run, "shrink", -1]["batches"]


@pytest.fixture
def photos(airflow, tmp_path):
    return Photos(airflow, tmp_path)


def test_each_mini_batch_sees_its_own_files_and_the_step_leaves_what_all_left(photos):
    assert photos.run("r1") == [1, 2, 3]
    assert photos.thumbs("r1") == {name: f"{name.upper()} IMAGE\n" for name in "abcde"}
    assert photos.table("r1") == [
        {"batch": 1, "files": 2, "outcome": "ran"},
        {"batch": 2, "files": 2, "outcome": "ran"},
        {"batch": 3, "files": 1, "outcome": "ran"},
    ]
    described = photos.airflow.xcoms["photos", "r1", "shrink", -1]["thumbs"]
    assert described["digest"] == digest_path(Path(urlsplit(described["uri"]).path)).digest


def test_a_second_run_costs_no_task_a_mini_batch(photos):
    photos.run("r1")
    photos.task("report", "r1")
    assert photos.plan("r2") == ["gather", "report", "shrink", "shrink.batch", "shrink.plan"]


def test_new_files_cost_only_themselves(photos):
    photos.run("r1")
    for name in ("aa", "f", "g"):
        photos.put(name)
    assert photos.run("r2") == [4, 5]
    assert sorted(photos.thumbs("r2")) == ["a", "aa", "b", "c", "d", "e", "f", "g"]
    assert [row["outcome"] for row in photos.table("r2")] == ["reused", "reused", "reused", "ran", "ran"]


def test_a_changed_file_costs_its_own_mini_batch_and_one_that_is_gone_what_it_leaves(photos):
    photos.run("r1")
    photos.put("a", "another\n")
    assert photos.run("r2") == [3]
    (photos.folder / "raw/c").unlink()
    assert photos.run("r3") == [3]
    assert sorted(photos.thumbs("r3")) == ["a", "b", "d", "e"]


def test_a_folder_of_the_users_own_is_dealt_out_too(photos):
    photos.define(given="raw")
    assert photos.run("r1") == [1, 2, 3]
    photos.put("f")
    assert photos.run("r2") == [4]


def test_a_mini_batch_that_fails_fails_the_step_which_names_it(photos):
    photos.put("c", "bad\n")
    with pytest.raises(
        StepError, match=r"1 of 3 mini-batches failed, and none may \(parallel.error_threshold\): "
    ) as error:
        photos.run("r1")
    assert "batch 2 (2 files, c to d): the command ended with exit code 3" in str(error.value)
    photos.put("c")
    assert photos.run("r2") == [3]


def test_as_many_mini_batches_may_fail_as_the_threshold_says(photos):
    photos.put("c", "bad\n")
    photos.define(", error_threshold: 1")
    photos.run("r1")
    assert sorted(photos.thumbs("r1")) == ["a", "b", "e"]
    assert [row["outcome"] for row in photos.table("r1")] == ["ran", "failed", "ran"]


def test_a_mini_batch_whose_task_never_ran_makes_no_record_of_the_others_whatever_the_threshold(photos):
    photos.define(", error_threshold: 2")
    photos.plan("r1")
    photos.task("gather", "r1")
    photos.task("shrink.plan", "r1")
    for index in (0, 2):
        photos.task("shrink.batch", "r1", map_index=index)
    with pytest.raises(
        StepError, match=r"1 of 3 mini-batches did not come to an end .*: batch 2 \(2 files, c to d\): it has left"
    ) as caught:
        photos.task("shrink", "r1")
    assert "Clear the task shrink.batch, or run the pipeline again" in str(caught.value)
    assert photos.run("r2") == [2]
    assert sorted(photos.thumbs("r2")) == list("abcde")


def test_two_mini_batches_that_leave_one_name_are_named(photos):
    photos.define(name="same")
    with pytest.raises(
        StepError, match=r"output thumbs: batch 1 \(2 files, a to b\) and batch 2 .* both left same: name"
    ):
        photos.run("r1")


def test_a_file_that_changes_after_it_was_dealt_out_makes_no_record(photos):
    photos.define(given="raw")
    photos.plan("r1")
    photos.task("shrink.plan", "r1")
    photos.put("a", "another\n")
    with pytest.raises(DataChangedError, match="changed after the step was planned"):
        photos.task("shrink.batch", "r1", map_index=0)


def test_rule_7_a_lost_input_is_made_again_for_a_mini_batch(photos):
    photos.plan("r1")
    photos.task("gather", "r1")
    photos.task("shrink.plan", "r1")
    images = Path(urlsplit(photos.airflow.xcoms["photos", "r1", "gather", -1]["images"]["uri"]).path)
    (images / "a").chmod(0o644)
    (images / "a").write_text("b image\n")  # as many bytes
    assert photos.task("shrink.batch", "r1", map_index=0).outcome == "ran"
    assert photos.task("shrink.batch", "r1", map_index=1).outcome == "ran"


def test_rule_7_a_lost_output_is_made_again_of_the_mini_batches(photos):
    photos.run("r1")
    store = Store.open(str(photos.folder / "store"))
    thumbs = Path(urlsplit(photos.airflow.xcoms["photos", "r1", "shrink", -1]["thumbs"]["uri"]).path)
    store.remove(store.path_of(thumbs.as_uri()))
    photos.task("report", "r1")
    uri = photos.airflow.xcoms["photos", "r1", "report", -1]["report"]["uri"]
    assert Path(urlsplit(uri).path).read_text() == "".join(f"{name} IMAGE\n" for name in "ABCDE")


def test_a_folder_without_files_is_refused(photos):
    for path in (photos.folder / "raw").iterdir():
        path.unlink()
    photos.define(given="raw")
    photos.plan("r1")
    with pytest.raises(
        DataError, match=r"shrink, input images: .* has no files; mini-batches are dealt out of the files"
    ):
        photos.task("shrink.plan", "r1")


def test_rule_5_a_file_that_comes_after_the_files_were_dealt_out_makes_no_record(photos):
    photos.define(given="raw")
    photos.plan("r1")
    photos.batches("r1")
    photos.put("new")
    with pytest.raises(DataChangedError, match=r"files of input 'images' changed after .*; clear the task shrink.plan"):
        photos.task("shrink", "r1")
    photos.run("r2")
    assert sorted(photos.thumbs("r2")) == ["a", "b", "c", "d", "e", "new"]
