from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions import Pipeline, PipelineParameter, parameter_values
from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.exceptions import ParameterError
from tests.definitions.helpers import problems, refused, step

NUMBER = PipelineParameter("c", type="number", default=1.0, minimum=0, maximum=10)
INTEGER = PipelineParameter("n", type="integer", default=1, minimum=0)
TEXT = PipelineParameter("t", default="x")
TRUTH = PipelineParameter("b", type="boolean", default=True)
CHOICE = PipelineParameter("e", choices=["a", 1, True], default="a")
LIMITED = PipelineParameter("k", type="integer", choices=[1, 2, 4])


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (NUMBER, 1, 1.0),
        (NUMBER, 0.5, 0.5),
        (INTEGER, 2, 2),
        (INTEGER, 2.0, 2),
        (TEXT, "", ""),
        (TRUTH, False, False),
        (CHOICE, 1, 1),
        (CHOICE, True, True),
        (LIMITED, 2.0, 2),
    ],
)
def test_a_value_gets_the_type_of_its_parameter(parameter, value, expected):
    typed = parameter.value(value)
    assert (typed, type(typed)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (NUMBER, "1", "parameter c must be a number, given: 1"),
        (NUMBER, True, "must be a number"),
        (NUMBER, None, "must be a number"),
        (NUMBER, float("nan"), "must be a number"),
        (NUMBER, float("inf"), "must be a number"),
        (NUMBER, 10**400, "must be a number"),
        (NUMBER, -0.1, "at least 0"),
        (NUMBER, 10.5, "at most 10"),
        (INTEGER, 1.5, "a whole number"),
        (INTEGER, True, "a whole number"),
        (INTEGER, float("inf"), "a whole number"),
        (INTEGER, -1, "at least 0"),
        (TEXT, 1, "a text"),
        (TRUTH, 1, "true or false"),
        (TRUTH, "true", "true or false"),
        (CHOICE, "b", "one of a, 1, true"),
        (CHOICE, False, "one of a, 1, true"),
        (LIMITED, 3, "one of 1, 2, 4"),
        (LIMITED, True, "one of 1, 2, 4"),
    ],
)
def test_a_value_its_parameter_refuses_says_what_is_allowed(parameter, value, words):
    with pytest.raises(ParameterError, match="given") as caught:
        parameter.value(value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("parameter", "text", "expected"),
    [
        (NUMBER, "1", 1.0),
        (NUMBER, "1e-3", 0.001),
        (INTEGER, "7", 7),
        (INTEGER, "7.0", 7),
        (TEXT, "true", "true"),
        (TRUTH, "True", True),
        (TRUTH, "false", False),
        (CHOICE, "a", "a"),
        (CHOICE, "1", 1),
        (CHOICE, "true", True),
        (LIMITED, "4", 4),
    ],
)
def test_a_text_on_the_command_line_stands_for_a_typed_value(parameter, text, expected):
    value = parameter.from_text(text)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (NUMBER, "x"),
        (NUMBER, "nan"),
        (NUMBER, "inf"),
        (INTEGER, "1.5"),
        (TRUTH, "1"),
        (TRUTH, "yes"),
        (CHOICE, "b"),
        (LIMITED, "3"),
    ],
)
def test_a_text_that_stands_for_no_value_is_refused(parameter, text):
    with pytest.raises(ParameterError):
        parameter.from_text(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (1.0, PipelineParameter("x", type="number", default=1.0)),
        (1, PipelineParameter("x", type="integer", default=1)),
        (True, PipelineParameter("x", type="boolean", default=True)),
        ("a", PipelineParameter("x", type="string", default="a")),
        ({"default": 1.5}, PipelineParameter("x", type="number", default=1.5)),
        ({"choices": ["a", "b"]}, PipelineParameter("x", type="enum", choices=("a", "b"))),
        ({"type": "number", "default": 1}, PipelineParameter("x", type="number", default=1.0)),
        ({}, PipelineParameter("x", type="string")),
    ],
)
def test_the_type_may_be_left_to_the_default(written, expected):
    pipeline = Pipeline(name="p", parameters={"x": written}, steps=[step("a")])
    made = pipeline.parameters["x"]
    assert made == expected
    assert type(made.default) is type(expected.default)


def test_azure_ml_calls_the_default_default_value():
    assert PipelineParameter(name="c", default_value=0.1) == PipelineParameter("c", type="number", default=0.1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "number", "default": "x"}, "default: must be a number"),
        ({"type": "number", "default": 2, "maximum": 1}, "default: must be at most 1"),
        ({"type": "number", "default": float("nan")}, "default: must be a finite number"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "is greater than the maximum, 1"),
        ({"type": "number", "minimum": float("nan")}, "must be a finite number"),
        ({"type": "string", "minimum": 1}, "has no meaning for type string"),
        ({"type": "enum"}, "choices: is missing"),
        ({"type": "integer", "choices": [1, "a"]}, "choices[1]: must be a whole number"),
        ({"choices": [float("inf")]}, "choices[0]: must be a finite number"),
        ({"choices": ["a"], "default": "b"}, "default: must be one of a"),
        ({"type": "numbr"}, "Did you mean number?"),
    ],
)
def test_a_parameter_that_contradicts_itself_is_refused(fields, words):
    (problem,) = problems(PipelineParameter, "x", **fields)
    assert words in problem


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=5), st.none()))
def test_the_trigger_form_and_the_pipeline_refuse_the_same_values(value):
    for parameter in (NUMBER, INTEGER, TEXT, TRUTH, LIMITED):
        try:
            parameter.value(value)
        except ParameterError:
            continue
        jsonschema.validate(value, parameter.json_schema())


def test_the_schema_of_a_parameter_is_what_an_airflow_param_takes():
    parameter = PipelineParameter("n", type="integer", default=3, minimum=1, maximum=9, description="How many")
    assert parameter.json_schema() == {
        "type": "integer",
        "title": "n",
        "description": "How many",
        "minimum": 1,
        "maximum": 9,
        "default": 3,
    }
    assert CHOICE.json_schema() == {
        "type": ["string", "integer", "boolean"],
        "enum": ["a", 1, True],
        "title": "e",
        "default": "a",
    }
    assert "default" not in LIMITED.json_schema()


@pytest.fixture
def pipeline():
    return Pipeline(name="p", parameters=[NUMBER, LIMITED], steps=[step("a")])


def test_what_is_not_given_has_its_default(pipeline):
    assert parameter_values(pipeline, {"k": 2}) == {"c": 1.0, "k": 2}


def test_everything_wrong_with_the_given_values_comes_at_once(pipeline):
    with pytest.raises(ParameterError) as caught:
        parameter_values(pipeline, {"cc": 1, "c": "x"})
    assert str(caught.value) == (
        "p has no parameter cc. Did you mean c?; parameter c must be a number, given: x; "
        "parameter k has no default: give a value"
    )


def test_a_list_is_no_parameter():
    with refused("must be a mapping"):
        build(PipelineParameter, [1])
