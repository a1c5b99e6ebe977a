from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Distribution, EstimatorStep, Pipeline, PipelineParameter
from tests.definitions.helpers import problems, read

N = "${{ parameters.n }}"


def test_one_process_on_one_machine_is_what_is_meant_where_nothing_is_said():
    made = Distribution(kind="torchrun")
    assert (made.nodes, made.processes_per_node, made.options, made.outputs_of) == (1, 1, (), "first")


@pytest.mark.parametrize("given", [0, -1, 1.5, True, "2", "two", "", None, [2], "${{ run.run_after }}", f"{N}0"])
@pytest.mark.parametrize("field", ["nodes", "processes_per_node"])
def test_a_count_that_is_none_is_refused_with_what_to_write(field, given):
    (problem,) = problems(Distribution, kind="mpi", **{field: given})
    assert problem.startswith(f"Distribution.{field}: must be a whole number of at least 1")
    assert "or as ${{ parameters.<name> }}" in problem


def test_a_count_may_be_a_parameter_which_must_be_there(project):
    text = """
        name: p
        parameters: {ranks: 2}
        steps:
          train:
            kind: estimator
            entry_script: train.py
            source_directory: src
            distribution: {kind: torchrun, processes_per_node: "${{ parameters.rank }}"}
        """
    (problem,) = problems(read, text, project)
    assert "steps.train.distribution.processes_per_node: names a parameter that does not exist" in problem
    assert "Did you mean parameters.ranks?" in problem
    assert read(text.replace("rank }}", "ranks }}"), project).step("train").distribution.nodes == 1


def test_a_parameter_object_as_a_count_becomes_one_of_the_pipeline():
    n = PipelineParameter(name="n", type="integer", default=2, minimum=1)
    for distribution in ({"kind": "mpi", "nodes": n}, Distribution(kind="mpi", nodes=n)):
        step = EstimatorStep(entry_script="train.py", distribution=distribution)
        assert step.distribution == Distribution(kind="mpi", nodes=N)
        assert Pipeline(name="p", steps=[step]).parameters == {"n": n}


def test_options_may_hold_values_and_nothing_that_only_a_launcher_knows():
    assert Distribution(options=["-x", f"N={N}", 3]).options == ("-x", f"N={N}", "3")
    (problem,) = problems(Distribution, options=["${{ inputs.x }}"])
    assert problem.startswith("Distribution.options[0]: holds an expression that has no meaning there")


def test_every_wrong_field_is_named_at_once():
    found = problems(Distribution, kind="horovod", nodes=0, outputs_of="last", gpus=1)
    assert [problem.partition(":")[0] for problem in found] == [
        "Distribution.gpus",
        "Distribution.kind",
        "Distribution.nodes",
        "Distribution.outputs_of",
    ]
