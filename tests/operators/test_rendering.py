from __future__ import annotations

import json

import pytest
from airflow.sdk.log import mask_secret
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment

from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.operators.rendering import around_expressions, as_data

HIDDEN = "pa55word-of-rendering"
VALUES = {"ds": "2025-03-01", "dollar": "$", "brace": "{", "expression": "${{ inputs.x }}", "n": 3, "hidden": HIDDEN}


@pytest.fixture(scope="module", autouse=True)
def hidden():
    mask_secret(HIDDEN)
    mask_secret("8675309042")


def jinja(text):
    return SandboxedEnvironment(loader=DictLoader({})).from_string(text).render(VALUES)


def native(text):
    return NativeEnvironment().from_string(text).render(VALUES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ ds }}", "2025-03-01"),
        ("${{ inputs.x }}", "${{ inputs.x }}"),
        ("${{inputs.x}}", "${{inputs.x}}"),
        (
            "--x=${{ inputs.x }} --day={{ ds }} --y=${{ outputs.y }}",
            "--x=${{ inputs.x }} --day=2025-03-01 --y=${{ outputs.y }}",
        ),
        ("{{ ds }}${{ inputs.x }}{{ ds }}", "2025-03-01${{ inputs.x }}2025-03-01"),
        ("{{ dollar }}${{ inputs.x }}", "$${{ inputs.x }}"),
        ("{% if n > 2 %}${{ inputs.x }}{% else %}${{ inputs.y }}{% endif %}", "${{ inputs.x }}"),
        ("{% for i in range(2) %}${{ inputs.x }},{% endfor %}", "${{ inputs.x }},${{ inputs.x }},"),
        ("{# ${{ inputs.x }} #}plain", "plain"),
        ("$5 {{ ds }} $HOME ${HOME}", "$5 2025-03-01 $HOME ${HOME}"),
        ("${{ a\n }}{{ ds }}", "${{ a\n }}2025-03-01"),
    ],
)
def test_jinja_renders_what_stands_around_expressions_and_never_sees_them(text, expected):
    assert around_expressions(text, jinja) == expected


def test_jinja_is_asked_once_and_gets_no_expression():
    asked = []
    around_expressions("${{ inputs.x }} {{ ds }} ${{ run.run_after }}", lambda text: asked.append(text) or "")
    (text,) = asked
    assert "${{" not in text
    assert "{{ ds }}" in text


EXPRESSIONS = ("${{ inputs.x }}", "${{ parameters.y }}", "${{run.run_after}}", "${{ not\nours }}")


@given(st.lists(st.sampled_from(EXPRESSIONS) | st.just("{{ ds }}") | st.text(alphabet="a0_ }\n'")))
def test_expressions_come_out_as_they_went_in_and_templates_rendered(parts):
    expected = [VALUES["ds"] if part == "{{ ds }}" else part for part in parts]
    assert around_expressions("".join(parts), lambda text: text.replace("{{ ds }}", VALUES["ds"])) == "".join(expected)


@pytest.mark.parametrize(
    "text",
    [
        "{{ expression }}",
        "a {{ expression }} b",
        "{{ dollar }}{{ brace }}{{ brace }} inputs.x }}",
        "{% set x = dollar ~ brace ~ brace %}{{ x }} inputs.x }}",
        "${{ inputs.x }} {{ expression }}",
    ],
)
def test_a_template_cannot_write_an_expression(text):
    with pytest.raises(ParameterError, match=r"holds an expression: .*Only the DAG file may: write \$\{\{ parameters"):
        around_expressions(text, jinja)


@pytest.mark.parametrize("render", [jinja, native])
@pytest.mark.parametrize(
    "text", ["{{ hidden }}", "postgres://me:{{ hidden }}@db", "{{ [1, hidden] }}", "{{ {'a': {'b': hidden}} }}"]
)
def test_a_template_cannot_bring_in_a_secret_and_the_error_does_not_tell_it(text, render):
    with pytest.raises(ParameterError, match="what Airflow keeps secret") as error:
        around_expressions(text, render)
    assert HIDDEN not in str(error.value)
    assert "environment={'secrets': {'<VARIABLE>': 'connection:<id>.<field>'}}" in str(error.value)


def test_a_secret_that_is_a_number_is_one_too():
    with pytest.raises(ParameterError, match="what Airflow keeps secret"):
        around_expressions("{{ 8675309042 }}", native)


def test_native_values_keep_their_type():
    assert around_expressions("{{ n }}", native) == 3
    assert around_expressions("{{ [n, {'a': n}] }}", native) == [3, {"a": 3}]


def test_expressions_within_native_values_come_out_too():
    assert around_expressions("['--x', '${{ inputs.x }}', {{ n }}]", native) == ["--x", "${{ inputs.x }}", 3]
    assert around_expressions("{'a': ('${{ inputs.x }}',)}", native) == {"a": ("${{ inputs.x }}",)}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(alphabet="abc$ {}"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="abc"), inner),
    )
)
def test_data_without_expressions_and_secrets_stays_as_it_is(value):
    if "${{" in json.dumps(value):
        with pytest.raises(ParameterError):
            as_data(value)
    else:
        assert as_data(value) == value


@pytest.mark.parametrize("value", [["a", ["${{ x }}"]], ("${{ x }}",), {"a": {"b": "${{ x }}"}}, {"${{ x }}"}])
def test_data_with_an_expression_anywhere_is_refused(value):
    with pytest.raises(ParameterError, match=r"holds an expression: '\$\{\{ x \}\}'"):
        as_data(value)


def test_data_with_a_secret_anywhere_is_refused():
    with pytest.raises(ParameterError, match="what Airflow keeps secret"):
        as_data({"a": [f"x{HIDDEN}x"]})


def test_what_airflow_reads_item_by_item_becomes_a_list():
    class Lazy(list):
        """Stands for a lazy sequence of XComs."""

    found = as_data({"a": Lazy([1, 2])})
    assert found == {"a": [1, 2]}
    assert type(found["a"]) is list


@pytest.mark.parametrize("value", [b"${{ x }}", None, 3, 2.5, True, object])
def test_what_is_no_text_is_left_alone(value):
    assert as_data(value) is value
