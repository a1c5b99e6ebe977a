from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Parallel, dump, loads
from airflow_mlpipe.definitions.parallel import helpers_of
from tests.definitions.helpers import problems, read, step

GIVEN = {"over": "${{ inputs.images }}", "mini_batch_size": 10}


def dealt(**fields):
    given = {"inputs": {"images": "images"}, "outputs": ["thumbs"], "parallel": GIVEN}
    return step("shrink", **{**given, **fields})


def test_over_names_an_input_as_an_expression_or_by_itself():
    assert Parallel(**GIVEN) == Parallel(over="images", mini_batch_size=10)
    assert helpers_of(dealt()) == ("shrink.plan", "shrink.batch")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"over": "${{ outputs.x }}"}, "Parallel.over: must name one input of the step"),
        ({"over": "a ${{ inputs.x }}"}, "Parallel.over: must name one input of the step"),
        ({"mini_batch_size": 0}, "Parallel.mini_batch_size: must be at least 1 (given: 0)"),
        ({"max_concurrent": 0}, "Parallel.max_concurrent: must be at least 1 (given: 0)"),
        ({"error_threshold": -1}, "Parallel.error_threshold: must be at least 0 (given: -1)"),
    ],
)
def test_what_is_wrong_with_a_field_is_said(fields, said):
    assert problems(Parallel, **{**GIVEN, **fields})[0].startswith(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"inputs": {"image": "images"}}, "parallel.over: names an input that the step does not declare"),
        ({"outputs": []}, "outputs: is missing: the step leaves what its mini-batches leave"),
        ({"outputs": {"thumbs": {"kind": "file"}}}, "outputs.thumbs.kind: is a file, of which each mini-batch would"),
        ({"outputs": ["batches"]}, "outputs.batches: is the name under which the step leaves the table"),
        ({"inputs": {"images": {"path": "images", "mode": "direct"}}}, "inputs.images.mode: is the mode of an input"),
        (
            {"sweep": {"parameters": {"c": [1]}, "objective": {"metric": "auc", "goal": "maximize"}}},
            "parallel: does not go together with sweep",
        ),
    ],
)
def test_what_does_not_go_together_with_mini_batches_is_said(fields, said):
    assert any(line.split(".", 1)[1].startswith(said) for line in problems(dealt, **fields))


def test_it_comes_back_from_its_yaml_and_its_tasks_have_names_of_their_own(tmp_path):
    text = """
        name: p
        steps:
          shrink:
            kind: command
            command: shrink
            inputs: {images: images}
            outputs: [thumbs]
            parallel: {over: "${{ inputs.images }}", mini_batch_size: 10, max_concurrent: 2}
          OTHER: {kind: command, command: "true"}
    """
    pipeline = read(text.replace("OTHER", "other"), tmp_path)
    assert loads(dump(pipeline), tmp_path) == pipeline
    found = problems(read, text.replace("OTHER", "shrink.batch"), tmp_path)
    assert found[0].startswith("steps.shrink.batch: is the name of a task that the step shrink has")
