from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Pipeline, PipelineData
from tests.definitions.helpers import problems, step


def wrong(*steps, **fields) -> list[str]:
    return problems(Pipeline, name="p", steps=list(steps), **fields)


def copied(name, where):
    return step(name, outputs={"x": {"destination": where}})


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "steps: is empty. Give at least one step"),
        ([step("a", inputs={"x": "${{ steps.b.outputs.x }}"})], "steps.a.inputs.x: names a step that does not exist"),
        (
            [step("prepare", outputs=["clean"]), step("a", inputs={"x": "${{ steps.prepar.outputs.clean }}"})],
            "Did you mean steps.prepare?",
        ),
        (
            [step("b", outputs=["clean"]), step("a", inputs={"x": "${{ steps.b.outputs.cleen }}"})],
            "names an output that b does not declare (given: ${{ steps.b.outputs.cleen }}). Did you mean steps.b.outputs.clean?",
        ),
        ([step("a", inputs={"x": "${{ inputs.x }}"})], "has a meaning only within a module"),
        ([step("a", inputs=[PipelineData("x")])], "is made by no step of the pipeline"),
        ([step("a", run_after=["b"]), step("bb")], "steps.a.run_after[0]: names a step that does not exist"),
        ([step("a", "echo ${{ parameters.c }}")], "steps.a.command: names a parameter that does not exist"),
        ([step("a", parameters={"x": "${{ parameters.x }}"})], "names a parameter that does not exist"),
        ([step("a"), step("a")], "is the name of another step too"),
        ([step("plan")], "is the name of the task that every pipeline begins with"),
        ([step("a", run_after=["a"])], "in a circle (given: a -> a)"),
        (
            [step("a", run_after=["c"]), step("b", run_after=["a"]), step("c", run_after=["b"])],
            "in a circle (given: a -> b -> c -> a)",
        ),
        ([copied("a", "s3://b/x"), copied("b", "s3://b/x")], "is also where steps.a.outputs.x goes"),
    ],
)
def test_a_pipeline_whose_steps_do_not_fit_together_is_refused(steps, words):
    (problem,) = wrong(*steps)
    assert words in problem


def test_two_producers_of_one_output_are_refused():
    data = PipelineData("x")
    (problem,) = wrong(step("a", outputs=[data]), step("b", outputs=[data]))
    assert "steps.b.outputs.x: is also an output of a" in problem


@pytest.mark.parametrize("value", ["logical_date", "data_interval_start", "data_interval_end"])
def test_runs_that_assets_start_have_no_logical_date(value):
    (problem,) = wrong(step("a", f"echo ${{{{ run.{value} }}}}"), schedule={"assets": "x"})
    assert "Use ${{ run.run_after }}, which every run has" in problem
    Pipeline(name="p", steps=[step("a", "echo ${{ run.run_after }}")], schedule={"assets": "x"})
    Pipeline(name="p", steps=[step("a", f"echo ${{{{ run.{value} }}}}")], schedule="@weekly")


def test_an_own_parameter_of_a_step_hides_the_pipelines():
    made = Pipeline(
        name="p",
        parameters={"c": 1.0},
        steps=[step("a", "echo ${{ parameters.c }}", parameters={"c": "${{ parameters.c }}"})],
    )
    assert made.step("a").parameters == {"c": "${{ parameters.c }}"}


def test_names_that_a_script_could_not_tell_apart_are_refused():
    assert "is the same name as c" in wrong(step("a"), parameters={"c": 1, "C": 2})[0]
    (problem,) = wrong(step("a", "echo ${{ parameters.C }}", parameters={"c": 1}), parameters={"C": 2})
    assert "steps.a.parameters.c: is the same name as C" in problem


def test_the_parameter_that_every_pipeline_has_cannot_be_declared():
    assert "every pipeline has" in wrong(step("a"), parameters={"regenerate_outputs": 1})[0]


def test_a_pipeline_does_not_end_before_it_starts():
    assert "is before the start date" in wrong(step("a"), start_date="2024-02-01", end_date="2024-01-01")[0]


def test_everything_wrong_with_a_pipeline_comes_at_once():
    found = wrong(
        step("a", "echo ${{ parameters.x }} ${{ parameters.y }}"),
        step("b", inputs={"x": "${{ steps.c.outputs.x }}"}, run_after=["d"]),
        start_date="2024-02-01",
        end_date="2024-01-01",
    )
    assert len(found) == 5
