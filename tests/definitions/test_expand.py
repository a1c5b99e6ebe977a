from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    CommandStep,
    DataReference,
    Destination,
    Environment,
    Module,
    ModuleStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    StepOutput,
)
from airflow_mlpipe.definitions.graph import edges
from tests.definitions.helpers import problems, step

ONE = Module(
    name="fit",
    version="1",
    inputs=["raw"],
    parameters={"rate": 0.1, "kind": {"type": "string", "default": "linear"}},
    step={
        "kind": "command",
        "command": "fit ${{ inputs.data }} ${{ outputs.model }} ${{ parameters.rate }}",
        "inputs": {"data": "${{ inputs.raw }}"},
        "outputs": {"model": {"kind": "file"}},
        "parameters": {"label": "a-${{ parameters.kind }}-b"},
    },
)

MANY = Module(
    name="clean_and_fit",
    version="1",
    inputs=["raw"],
    outputs={"model": "${{ steps.fit.outputs.model }}"},
    parameters={"rate": {"type": "number"}},
    steps={
        "clean": {
            "kind": "command",
            "command": "true",
            "inputs": {"raw": "${{ inputs.raw }}"},
            "outputs": ["clean"],
        },
        "fit": {
            "kind": "module",
            "module": "fit",
            "inputs": {"raw": "${{ steps.clean.outputs.clean }}"},
            "parameters": {"rate": "${{ parameters.rate }}"},
        },
        "report": {"kind": "command", "command": "true", "run_after": ["fit"]},
    },
)


@pytest.fixture(autouse=True)
def _modules(tmp_path):
    from airflow_mlpipe.definitions import dump

    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fit.yaml").write_text(dump(ONE))


def use(module, name="train", **fields):
    return ModuleStep(name=name, module=module, **fields)


def test_a_module_of_one_step_keeps_the_name_of_its_use():
    pipeline = Pipeline(name="p", steps=[use(ONE, inputs={"raw": "x.csv"})])
    assert pipeline.steps == (
        CommandStep(
            name="train",
            command="fit ${{ inputs.data }} ${{ outputs.model }} ${{ parameters.rate }}",
            inputs={"data": DataReference(path="x.csv")},
            outputs={"model": PipelineData("model", kind="file")},
            parameters={"rate": 0.1, "label": "a-linear-b"},
        ),
    )


def test_a_module_of_many_steps_is_expanded_through_modules_it_uses():
    pipeline = Pipeline(
        name="p",
        parameters={"r": 1.0},
        steps=[
            step("before"),
            use(MANY, inputs={"raw": "x.csv"}, parameters={"rate": "${{ parameters.r }}"}, run_after=["before"]),
            step("after", inputs={"m": "${{ steps.train.outputs.model }}"}, run_after=["train"]),
        ],
    )
    assert edges(pipeline) == {
        "before": (),
        "train.clean": ("before",),
        "train.fit": ("train.clean",),
        "train.report": ("train.fit",),
        "after": ("train.fit", "train.report"),
    }
    assert pipeline.step("train.fit").parameters["rate"] == "${{ parameters.r }}"
    assert pipeline.step("after").inputs == {"m": StepOutput(step="train.fit", output="model")}


def test_values_given_to_a_module_have_the_types_it_declares():
    pipeline = Pipeline(name="p", steps=[use(ONE, inputs={"raw": "x"}, parameters={"rate": 1})])
    rate = pipeline.steps[0].parameters["rate"]
    assert (rate, type(rate)) == (1.0, float)


def test_what_is_said_at_the_use_holds_where_the_module_says_nothing():
    pipeline = Pipeline(
        name="p",
        steps=[
            use(
                MANY,
                inputs={"raw": "x.csv"},
                parameters={"rate": 1},
                compute="big",
                retries=3,
                allow_reuse=False,
                labels={"team": "x"},
                environment=Environment(python="python3"),
            )
        ],
    )
    for inner in pipeline.steps:
        assert (inner.compute, inner.retries, inner.allow_reuse) == ("big", 3, False)
        assert inner.labels == {"team": "x"}
        assert inner.environment == Environment(python="python3")


def test_a_use_may_say_more_about_an_output():
    more = PipelineData("model", asset="models", destination="s3://b/m")
    pipeline = Pipeline(
        name="p", steps=[use(ONE, inputs={"raw": "x"}, outputs=[more]), step("next", inputs={"m": more})]
    )
    assert pipeline.steps[0].outputs["model"] == PipelineData(
        "model", kind="file", asset="models", destination=Destination(url="s3://b/m")
    )
    assert pipeline.step("next").inputs == {"m": StepOutput(step="train", output="model")}


def test_two_uses_of_one_module_do_not_meet():
    pipeline = Pipeline(name="p", steps=[use(MANY, name, inputs={"raw": "x"}, parameters={"rate": 1}) for name in "ab"])
    assert [inner.name for inner in pipeline.steps] == ["a.clean", "a.fit", "a.report", "b.clean", "b.fit", "b.report"]
    assert pipeline.step("b.fit").inputs["data"] == StepOutput(step="b.clean", output="clean")


def test_paths_in_a_module_start_at_its_own_folder():
    module = Module(
        name="m",
        version="1",
        step={
            "kind": "python_script",
            "script_name": "a.py",
            "source_directory": "src",
            "environment": {"requirements_file": "req.txt", "python": "bin/python"},
            "inputs": {
                "x": "data/x.csv",
                "y": "/abs",
                "z": {"datastore": "d", "path": "z"},
                "w": "${{ parameters.w }}",
            },
            "outputs": {"o": {"destination": "out"}},
        },
        parameters={"w": "w.csv"},
    )
    module.folder = Path("/shared")
    (inner,) = Pipeline(name="p", steps=[use(module)]).steps
    assert inner.source_directory == "/shared/src"
    assert (inner.environment.requirements_file, inner.environment.python) == ("/shared/req.txt", "/shared/bin/python")
    assert [inner.inputs[name].path for name in "xyzw"] == ["/shared/data/x.csv", "/abs", "z", "${{ parameters.w }}"]
    assert inner.outputs["o"].destination.path == "/shared/out"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "steps.train.inputs: lacks raw, which the module fit reads"),
        ({"inputs": {"raw": "x", "rw": "y"}}, "steps.train.inputs.rw: is no input of the module fit 1"),
        ({"inputs": {"raw": "x"}, "outputs": ["modell"]}, "Did you mean model?"),
        ({"inputs": {"raw": "x"}, "parameters": {"rat": 1}}, "Did you mean rate?"),
        ({"inputs": {"raw": "x"}, "parameters": {"rate": "fast"}}, "must be a number"),
        (
            {"inputs": {"raw": "x"}, "parameters": {"rate": "${{ parameters.zz }}"}},
            "names a parameter that does not exist",
        ),
    ],
)
def test_a_use_that_does_not_fit_the_module_is_refused(fields, words):
    (problem,) = problems(Pipeline, name="p", steps=[use(ONE, **fields)])
    assert words in problem


def test_a_parameter_without_a_default_must_be_given():
    (problem,) = problems(Pipeline, name="p", steps=[use(MANY, inputs={"raw": "x"})])
    assert "lacks rate, which the module clean_and_fit needs" in problem


def test_an_output_that_the_module_does_not_have_is_refused_by_its_outer_name():
    steps = [use(ONE, inputs={"raw": "x"}), step("next", inputs={"m": "${{ steps.train.outputs.modl }}"})]
    (problem,) = problems(Pipeline, name="p", steps=steps)
    assert "steps.next.inputs.m: names an output that train does not declare" in problem
    assert "Did you mean steps.train.outputs.model?" in problem


def test_a_module_that_uses_itself_is_refused(tmp_path):
    text = 'name: loop\nversion: "1"\nsteps: {again: {kind: module, module: loop}}\n'
    (tmp_path / "modules" / "loop.yaml").write_text(text)
    (problem,) = problems(Pipeline, name="p", steps=[use("loop")])
    assert "uses itself, through the modules it uses" in problem


def test_parameter_objects_given_to_a_module_become_parameters_of_the_pipeline():
    c = PipelineParameter("c", default=1.0)
    pipeline = Pipeline(name="p", steps=[use(ONE, inputs={"raw": "x"}, parameters={"rate": c})])
    assert pipeline.parameters == {"c": c}
    assert pipeline.steps[0].parameters["rate"] == "${{ parameters.c }}"
