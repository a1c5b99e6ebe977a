from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, ModuleStep, Pipeline, PythonScriptStep
from airflow_mlpipe.definitions.conditionnodes import Metric
from airflow_mlpipe.definitions.conditions import both, constant_text, parse_condition
from airflow_mlpipe.definitions.dump import dump
from airflow_mlpipe.definitions.faults import Refused
from airflow_mlpipe.definitions.graph import edges
from airflow_mlpipe.definitions.load import load_pipeline, loads
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    ("text", "metrics", "parameters"),
    [
        ("steps.evaluate.metrics.auc > 0.9", [("evaluate", "auc")], ()),
        ("steps.a.metrics.x>parameters.t and not parameters.dry", [("a", "x")], ("t", "dry")),
        ("steps.a-b.metrics.x-steps.c.metrics.y >= 1", [("a-b", "x"), ("c", "y")], ()),
        ("steps.use.inner.metrics.x < 1 or true", [("use.inner", "x")], ()),
        ("steps.metrics.metrics.metrics < 1", [("metrics", "metrics")], ()),
        ("steps.a.metrics['val/auc'] < 1", [("a", "val/auc")], ()),
        ('0 < steps.a.metrics["top 5"] <= -(1 + 2) * 3 / 4', [("a", "top 5")], ()),
        ("parameters.mode == 'steps.a.metrics.x'", [], ("mode",)),
        ('parameters.mode != "parameters.x"', [], ("mode",)),
        ("false", [], ()),
        ("not (True and False)", [], ()),
        ("parameters.r == 1", [], ("r",)),
    ],
)
def test_a_condition_names_what_it_looks_at(text, metrics, parameters):
    condition = parse_condition("${{ " + text + " }}")
    assert condition.metrics == tuple(Metric(*pair) for pair in metrics)
    assert condition.parameters == parameters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps.a.metrics.x > 1", "is no condition, which stands within ${{ }} (given: steps.a.metrics.x > 1)"),
        ("${{ steps.a.metrics.x }} > 1", "is no condition"),
        ("${{ steps.a.metrics.x", "is no condition"),
        ("${{ }}", "cannot be read as a condition"),
        (
            "${{ steps.a.metrics.x > }}",
            "cannot be read as a condition (given: ${{ steps.a.metrics.x > }}). Write it as in",
        ),
        ("${{ parameters.a && parameters.b }}", "Write and in place of &&"),
        ("${{ parameters.a || parameters.b }}", "Write or in place of ||"),
        ("${{ !parameters.a }}", "Write not in place of !"),
        ("${{ parameters.a = 1 }}", "Write == in place of ="),
        ("${{ steps.a.metrics.x }}", "comes to a number, not to true or false"),
        ("${{ 'yes' }}", "comes to a text"),
        ("${{ steps.a.metrics.x > '1' }}", "compares a number with a text (given: ${{ steps.a.metrics.x > '1' }})"),
        ("${{ true > false }}", "has > between what is true or false"),
        ("${{ steps.a.metrics.x and true }}", "has a number beside and, which takes true and false"),
        ("${{ not steps.a.metrics.x }}", "has a number beside not"),
        ("${{ 'a' + 'b' == parameters.x }}", "has a text beside +, which takes numbers"),
        ("${{ -true == parameters.x }}", "has a truth beside -"),
        ("${{ auc > 1 }}", "names auc, which is nothing here (given: auc). Write steps.<step>.metrics.auc"),
        ("${{ r0 > steps.a.metrics.x }}", "names r0, which is nothing here"),
        ("${{ steps.a.x > 1 }}", "names steps.a.x, which means nothing in a condition"),
        ("${{ steps.a.outputs.x == 'x' }}", "Write steps.<step>.metrics.<metric>"),
        ("${{ steps.a.metrics.x.y > 1 }}", "names steps.a.metrics.x.y"),
        ("${{ step.a.metrics.x > 1 }}", "Write steps.<step>.metrics.<metric>"),
        ("${{ parameter.t > 1 }}", "Did you mean parameters.t?"),
        ("${{ inputs.t > 1 }}", "It may name steps.<step>.metrics.<metric> and parameters.<name>"),
        ("${{ run.logical_date > '2025' }}", "names run.logical_date"),
        ("${{ __import__('os') }}", "holds a call"),
        ("${{ parameters.x() }}", "which means nothing in a condition"),
        ("${{ 'x'.upper() == 'X' }}", "holds a call"),
        ("${{ ''.__class__ == 'x' }}", "holds an attribute"),
        ("${{ parameters.x[0] == 1 }}", "which means nothing in a condition"),
        ("${{ (1).real == 1 }}", "holds an attribute"),
        ("${{ [1] == [1] }}", "holds something else than a comparison"),
        ("${{ [x for x in 'ab'] == 1 }}", "holds something else"),
        ("${{ (lambda: 1) == 1 }}", "holds a function"),
        ("${{ (x := 1) == 1 }}", "holds something else"),
        ("${{ 1 if true else 2 }}", "holds if and else"),
        ("${{ f'{1}' == '1' }}", "holds a text with values in it"),
        ("${{ 2 ** 9999999 > 1 }}", "holds an operator other than + - * /"),
        ("${{ 'a' in parameters.x }}", "holds a comparison other than"),
        ("${{ parameters.x is true }}", "holds a comparison other than"),
        ("${{ 1e999 > 1 }}", "holds a value that is no finite number"),
        ("${{ 1j == 1 }}", "holds a value that is no finite number"),
        ("${{ None == parameters.x }}", "holds a value"),
        ("${{ true) or (true }}", "cannot be read as a condition"),
        ("${{ true; true }}", "cannot be read as a condition"),
        ("${{ " + "not " * 60 + "true }}", "is nested too deeply"),
        ("${{ " + "(" * 500 + "true" + ")" * 500 + " }}", "cannot be read"),
        ("${{ " + "true or " * 300 + "true }}", "is longer than 2000 characters"),
        ("${{ '\0' == parameters.x }}", "cannot be read"),
    ],
)
def test_what_is_no_condition_is_refused_with_a_remedy(text, words):
    with refused(words):
        parse_condition(text)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    try:
        condition = parse_condition("${{ " + text + " }}")
    except Refused:
        return
    assert parse_condition("${{ " + str(condition) + " }}") == condition


@pytest.mark.parametrize("value", [1, -2, 0.5, True, False, "x", "it's", 'say "hi"', ""])
def test_a_value_is_written_so_that_it_is_read_again(value):
    condition = parse_condition("${{ " + constant_text(value) + " == parameters.x }}")
    assert condition.parameters == ("x",)


def test_a_text_that_no_quotes_can_hold_is_refused():
    with refused("cannot stand in a condition"):
        constant_text("'\"")


def test_two_conditions_hold_where_both_do():
    first, second = "${{ parameters.a or parameters.b }}", "${{ not parameters.c }}"
    assert both(first, second) == "${{ (parameters.a or parameters.b) and (not parameters.c) }}"
    assert (both(first, None), both(None, second), both(None, None)) == (first, second, None)


def make(name, **given):
    return CommandStep(name=name, command="true", **given)


def test_a_condition_is_an_edge_without_data():
    pipeline = Pipeline(
        name="p", steps=[make("train", run_if="${{steps.evaluate.metrics.auc  >  0.9}}"), make("evaluate")]
    )
    assert edges(pipeline) == {"train": ("evaluate",), "evaluate": ()}
    assert pipeline.step("train").run_if == "${{ steps.evaluate.metrics.auc > 0.9 }}"


def test_a_condition_is_part_of_the_definition_and_survives_a_dump():
    text = "name: p\nsteps:\n  a: {kind: command, command: 'true'}\n  b: {kind: command, command: 'true', run_if: '${{ steps.a.metrics.x > 1 }}'}\n"
    pipeline = loads(text)
    assert loads(dump(pipeline)) == pipeline
    assert pipeline.digest != loads(text.replace("> 1", "> 2")).digest


def test_every_kind_of_step_takes_a_condition():
    condition = "${{ steps.a.metrics.x > 1 }}"
    steps = (
        make("b", run_if=condition),
        PythonScriptStep(script_name="a.py", run_if=condition),
        DataTransferStep(name="t", source="a.txt", destination={"path": "b.txt"}, run_if=condition),
        ModuleStep(module="m", run_if=condition),
    )
    assert {step.condition.steps for step in steps} == {("a",)}


HEAD = """\
name: p
parameters:
  threshold: 0.5
  dry: false
  mode: full
steps:
  evaluate: {kind: command, command: "true"}
  copy: {kind: data_transfer, source: a.txt, destination: {path: b.txt}}
  train:
    kind: command
    command: "true"
    parameters: {own: 1}
    run_if: """


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            "${{ steps.evalute.metrics.auc > 1 }}",
            "steps.train.run_if: names a step that does not exist (given: steps.evalute.metrics.auc). Did you mean steps.evaluate?",
        ),
        (
            "${{ steps.evaluate.metrics.auc > parameters.treshold }}",
            "names a parameter that the pipeline does not have (given: parameters.treshold). Did you mean parameters.threshold?",
        ),
        ("${{ parameters.own == 1 }}", "names a parameter that the pipeline does not have (given: parameters.own)"),
        ("${{ steps.copy.metrics.x > 1 }}", "names a metric of copy, and a data transfer logs none"),
        ("${{ parameters.mode > 1 }}", "compares a text with a number"),
        ("${{ parameters.threshold }}", "comes to a number"),
        ("${{ parameters.dry > true }}", "has > between what is true or false"),
        ("${{ steps.train.metrics.x > 1 }}", "the steps need each other in a circle (given: train -> train)"),
        ("${{ nonsense }}", "steps.train.run_if: names nonsense, which is nothing here"),
        (
            "true",
            "steps.train.run_if: must be a condition (given: true). Write it as in ${{ steps.evaluate.metrics.auc",
        ),
    ],
)
def test_a_condition_that_does_not_fit_is_an_error_with_its_place(tmp_path, condition, words):
    file = tmp_path / "p.yaml"
    (tmp_path / "a.txt").touch()
    file.write_text(HEAD + condition + "\n")
    with pytest.raises(DefinitionError) as caught:
        load_pipeline(file)
    assert words in str(caught.value)
    assert f"{file}:{'9:3' if 'circle' in words else '13:13'}: " in str(caught.value)


MODULE = """\
name: gated
version: "1"
parameters:
  least: 0.5
  dry: false
steps:
  score: {kind: command, command: "true"}
  publish:
    kind: command
    command: "true"
    run_if: ${{ steps.score.metrics.auc > parameters.least and not parameters.dry }}
"""


def used(tmp_path, parameters, **given):
    (tmp_path / "modules").mkdir(exist_ok=True)
    (tmp_path / "modules" / "gated.yaml").write_text(MODULE)
    file = tmp_path / "p.yaml"
    extra = "".join(f", {name}: '{value}'" for name, value in given.items())
    file.write_text(
        "name: p\nparameters: {t: 0.1}\nsteps:\n  first: {kind: command, command: 'true'}\n"
        f"  use: {{kind: module, module: gated, parameters: {parameters}{extra}}}\n"
    )
    return load_pipeline(file)


def test_a_condition_in_a_module_speaks_of_its_steps_and_of_what_its_use_gives(tmp_path):
    pipeline = used(tmp_path, "{least: '${{ parameters.t }}', dry: true}")
    assert pipeline.step("use.publish").run_if == ("${{ steps.use.score.metrics.auc > parameters.t and not true }}")
    assert pipeline.step("use.publish").parameters == {}


def test_the_condition_of_a_module_step_holds_for_each_of_its_steps(tmp_path):
    pipeline = used(tmp_path, "{}", run_if="${{ steps.first.metrics.n > 10 }}")
    assert pipeline.step("use.score").run_if == "${{ steps.first.metrics.n > 10 }}"
    assert pipeline.step("use.publish").run_if == (
        "${{ (steps.first.metrics.n > 10) and (steps.use.score.metrics.auc > (0.5) and not false) }}"
    )
    assert edges(pipeline)["use.score"] == ("first",)


def test_what_a_condition_cannot_hold_is_no_parameter_of_its_module(tmp_path):
    with pytest.raises(DefinitionError, match="stands in a condition of the module gated"):
        used(tmp_path, "{least: '0${{ parameters.t }}'}")


def test_a_condition_in_a_module_names_only_parameters_of_the_module(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "gated.yaml").write_text(MODULE.replace("parameters.dry", "parameters.dri"))
    (tmp_path / "p.yaml").write_text("name: p\nsteps:\n  use: {kind: module, module: gated}\n")
    with pytest.raises(DefinitionError, match=r"names a parameter that the module does not declare .*parameters\.dry"):
        load_pipeline(tmp_path / "p.yaml")
