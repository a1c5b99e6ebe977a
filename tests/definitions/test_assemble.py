from __future__ import annotations

from airflow_mlpipe.definitions import Module, ModuleStep, Pipeline, PipelineData, StepOutput
from airflow_mlpipe.definitions.assemble import Surroundings, assemble
from tests.definitions.helpers import refused, step

MODULE = Module(name="m", version="1", steps={"a": {"kind": "command", "command": "true", "outputs": ["x"]}})


def nowhere(name, version):
    raise AssertionError(name, version)


def test_modules_are_asked_for_by_name_and_version():
    asked = []

    def find(name, version):
        asked.append((name, version))
        return MODULE

    (made,) = assemble([ModuleStep(name="s", module="m", version="1")], Surroundings(find))
    assert (made.name, asked) == ("s.a", [("m", "1")])


def test_an_equal_object_is_linked_where_it_can_mean_one_step_only():
    steps = [step("a", outputs=[PipelineData("x")]), step("b", inputs=[PipelineData("x")])]
    assert assemble(steps, Surroundings(nowhere))[1].inputs == {"x": StepOutput(step="a", output="x")}


def test_an_equal_object_that_two_steps_could_have_made_is_not_guessed():
    steps = [step(name, outputs=[PipelineData("x")]) for name in "ab"]
    made = assemble([*steps, step("c", inputs=[PipelineData("x")])], Surroundings(nowhere))
    assert made[2].inputs["x"].step == ""


def test_a_step_named_like_a_step_of_a_module_is_refused():
    with refused("s.a: is the name of another step too"):
        assemble([ModuleStep(name="s", module=MODULE), step("s.a")], Surroundings(nowhere))


def test_running_after_a_module_means_after_its_last_steps():
    module = Module(
        name="m",
        version="1",
        steps={
            "a": {"kind": "command", "command": "true"},
            "b": {"kind": "command", "command": "true", "run_after": "a"},
            "c": {"kind": "command", "command": "true"},
        },
    )
    pipeline = Pipeline(name="p", steps=[ModuleStep(name="s", module=module), step("end", run_after="s")])
    assert pipeline.step("end").run_after == ("s.b", "s.c")
