from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions import DataTransferStep, Pipeline, PipelineData, Workspace
from airflow_mlpipe.definitions.destinations import Spot, clash
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import problems, step

LAKE = Workspace(datastores={"lake": {"url": "/project/lake"}, "bucket": {"url": "s3://b/root"}}).located(Path("/work"))


def writes(name, where, **fields):
    return step(name, outputs={"o": {"destination": where}}, **fields)


def reads(name, where):
    return step(name, inputs={"i": where})


def found(*steps, **fields):
    """Return what is wrong with a pipeline: by itself, else in its workspace and folder."""
    try:
        made = Pipeline(name="p", steps=list(steps), **fields)
    except DefinitionError as error:
        return [str(problem) for problem in error.problems]
    made.folder = Path("/project")
    return [str(problem) for problem in LAKE.check(made)]


SAME = [
    ("results/o", "./results/../results/o"),
    ("results", "results/"),
    ("a//b", "a/b"),
    ("../x", "./../x"),
    ("/abs/x", "/abs/./y/../x"),
    ("~/x", str(Path.home() / "x")),
    ("/abs/x", "file:///abs/x"),
    ("s3://b/x", "s3://b/x/"),
    ({"datastore": "lake", "path": "x/"}, {"datastore": "lake", "path": "/x"}),
    ({"datastore": "lake", "path": "x"}, "lake/x"),
    ({"datastore": "lake", "path": "x"}, "/project/lake/x"),
    ({"datastore": "bucket", "path": "x"}, "s3://b/root/x"),
    ("results/${{ run.run_after }}", "results/${{run.run_after}}"),
    ("${{ parameters.place }}", "${{ parameters.place }}/"),
]
INSIDE = [
    ("results", "results/b.txt"),
    ("results", "x/../results/b/c"),
    ("/abs", "/abs/x"),
    ("../up", "../up/x"),
    ("s3://b", "s3://b/x"),
    ("results", "results/${{ run.logical_date }}.csv"),
    ("${{ parameters.place }}", "${{ parameters.place }}/x"),
    ({"datastore": "lake", "path": "x"}, {"datastore": "lake", "path": "x/y"}),
    ({"datastore": "lake", "path": "x"}, "lake/x/y"),
]
APART = [
    ("results", "results2"),
    ("results/o", "result/o"),
    ("s3://b/x", "gs://b/x"),
    ("s3://b/x", "s3://c/x"),
    ("x", "/x"),
    ("results", "results/${{ parameters.place }}"),
    ("results/${{ parameters.place }}", "results/x"),
    ("${{ parameters.place }}/../x", "x"),
    ("results/${{ run.run_after }}", "results/${{ run.logical_date }}"),
    ({"datastore": "lake", "path": "x"}, {"datastore": "bucket", "path": "x"}),
    ({"datastore": "lake", "path": "x"}, "x"),
]
PLACE = {"place": "there"}


@pytest.mark.parametrize(("one", "other"), SAME)
def test_rule_13_two_outputs_with_one_destination_are_refused_however_it_is_spelt(one, other):
    for first, second in ((one, other), (other, one)):
        (problem,) = found(writes("a", first), writes("b", second), parameters=PLACE)
        assert "steps.b.outputs.o.destination: is also where steps.a.outputs.o goes" in problem
        assert "Give each output its own destination" in problem


@pytest.mark.parametrize(("outer", "inner"), INSIDE)
def test_rule_13_a_destination_inside_or_around_another_one_is_refused(outer, inner):
    (problem,) = found(writes("a", outer), writes("b", inner), parameters=PLACE)
    assert "steps.b.outputs.o.destination: lies in " in problem
    assert "where steps.a.outputs.o goes" in problem
    (problem,) = found(writes("a", inner), writes("b", outer), parameters=PLACE)
    assert "steps.b.outputs.o.destination: holds " in problem
    assert "where steps.a.outputs.o goes" in problem


@pytest.mark.parametrize(("one", "other"), APART)
def test_places_that_may_be_apart_are_accepted(one, other):
    assert found(writes("a", one), writes("b", other), parameters=PLACE) == []
    assert found(writes("a", one), reads("b", other), parameters=PLACE) == []


def test_transfers_do_not_destroy_each_others_destinations():
    one = DataTransferStep(name="a", source="x", destination="out")
    other = DataTransferStep(name="b", source="y", destination="out/sub")
    (problem,) = found(one, other)
    assert problem.startswith("Pipeline.steps.b.destination: lies in out, where steps.a.outputs.data goes")


def test_where_an_output_goes_by_default_is_a_destination_too():
    by_default = step("a", outputs=[PipelineData("o", datastore="lake")])
    (problem,) = found(by_default, writes("b", {"datastore": "lake", "path": "p/a"}))
    assert "steps.b.outputs.o.destination: holds p/a/o, where steps.a.outputs.o goes" in problem
    (problem,) = found(writes("b", {"datastore": "lake", "path": "p/a"}), by_default)
    assert "steps.a.outputs.o.datastore: lies in p/a, where steps.b.outputs.o goes" in problem


@pytest.mark.parametrize(("made", "read"), [*SAME, *INSIDE, *((inner, outer) for outer, inner in INSIDE)])
def test_what_a_step_of_the_pipeline_delivers_is_not_read_by_path(made, read):
    for steps in ([writes("a", made), reads("b", read)], [reads("b", read), writes("a", made)]):
        (problem,) = found(*steps, parameters=PLACE)
        assert "steps.b.inputs.i: " in problem
        assert "where steps.a.outputs.o goes" in problem
        assert "Write ${{ steps.a.outputs.o }}, so that the step waits for it" in problem


@pytest.mark.parametrize("read", ["data/x.csv", "./data/../data/x.csv", "data", "data/x.csv/below"])
def test_a_step_does_not_overwrite_what_it_reads(read):
    (problem,) = found(step("a", inputs={"x": read}, outputs={"o": {"destination": "data/x.csv"}}))
    assert "steps.a.inputs.x: " in problem
    assert "where the output of the step itself goes" in problem
    assert "Choose another destination: a step that changes what it reads could never be reused" in problem


def test_a_transfer_onto_its_source_is_refused():
    (problem,) = found(DataTransferStep(name="a", source="data/x.csv", destination="data"))
    assert problem.startswith("Pipeline.steps.a.source: lies in data, where the output of the step itself goes")


def test_the_output_of_a_step_is_read_by_its_name():
    assert found(writes("a", "results/clean.csv"), reads("b", "${{ steps.a.outputs.o }}"), reads("c", "raw.csv")) == []


@pytest.mark.parametrize("where", ["..", "/project", "file:///", "/project/src", "src", "./src/", "../project"])
def test_an_output_does_not_take_the_place_of_code(where):
    code = step("a", source_directory="src")
    (problem,) = found(code, writes("b", where))
    assert "steps.b.outputs.o.destination: would take the place of the " in problem
    assert "folder of the definition" in problem or "source directory of a" in problem
    assert found(code, writes("b", "src/results")) == []


def test_places_in_a_datastore_that_is_not_there_are_no_reason_for_more_words():
    steps = [writes("a", {"datastore": "lak", "path": "x"}), writes("b", "x")]
    (problem,) = found(*steps)
    assert "is not in the workspace" in problem


def test_every_clash_of_a_pipeline_comes_at_once():
    steps = [writes("a", "x"), writes("b", "x"), writes("c", "x/y"), reads("d", "x"), reads("e", "x/z")]
    assert len(problems(Pipeline, name="p", steps=steps)) == 4


names = st.sampled_from(["a", "b", "..", ".", ""])


@given(st.lists(names, max_size=5), st.lists(names, max_size=5))
def test_places_are_the_same_exactly_where_the_disk_says_so(one, other):
    one, other = ("/".join(["/root", *parts]) for parts in (one, other))
    same = os.path.normpath(one) == os.path.normpath(other)
    assert (Spot.at("file://", one) == Spot.at("file://", other)) is same


@pytest.mark.parametrize(
    ("written", "read", "words"),
    [
        ([("a", "o", "s3://b/x"), ("b", "o", "s3://b/x")], [], "the destination s3://b/x of steps.b.outputs.o is also"),
        ([("a", "o", "file:///x"), ("b", "o", "file:///x/y")], [], "of steps.b.outputs.o lies in file:///x, where"),
        ([("a", "o", "file:///x")], [("b", "i", "file:///x/y")], "input i of b, file:///x/y, meets file:///x, where"),
        ([("a", "o", "file:///x")], [("a", "i", "file:///x")], "Choose another destination"),
        ([("a", "o", "file:///x")], [("b", "i", "file:///y")], None),
    ],
)
def test_the_places_of_a_run_clash_where_their_values_meet(written, read, words):
    message = clash(written, read)
    assert message is None if words is None else words in str(message)
