from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions.faults import Refused
from airflow_mlpipe.resolving.predicate import Predicate

LEFT = {
    "metrics": {"accuracy": 0.93, "loss": 0.2, "val-auc": 0.8},
    "parameters": {"c": 1.0, "kind": "rbf", "shuffle": True, "seed": None, "layers": 3},
}


def fits(text, values=LEFT):
    return Predicate.parse(text).why_not(values) is None


@pytest.mark.parametrize(
    "text",
    [
        "metrics.accuracy >= 0.9",
        "metrics.accuracy >= 0.9 and parameters.c < 2",
        "metrics.accuracy > 1 or parameters.kind == 'rbf'",
        "not metrics.loss > 0.5",
        "0.5 < metrics.accuracy < 0.95",
        "parameters.kind in ['rbf', 'poly']",
        "parameters.kind not in ('linear',)",
        "parameters.shuffle",
        "parameters.shuffle == true and parameters.seed == null",
        "metrics.loss > -1",
        "metrics['val-auc'] == 0.8",
        "metrics.loss < metrics.accuracy",
        "(metrics.loss > 1 or metrics.accuracy > 0.9) and parameters.layers == 3",
        "  metrics.loss != 0  ",
        "true",
    ],
)
def test_what_a_run_left_may_fit(text):
    assert fits(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("metrics.accuracy >= 0.95", "metrics.accuracy is 0.93"),
        ("metrics.accuracy >= 0.9 and parameters.c > 2", "metrics.accuracy is 0.93 and parameters.c is 1.0"),
        ("not parameters.shuffle", "parameters.shuffle is True"),
        ("metrics.auc > 0", "it has no metrics.auc"),
        ("parameters.kind > 3", "'rbf' and 3 cannot be compared so"),
        ("parameters.seed < 3", "None and 3 cannot be compared so"),
        ("parameters.layers in 3", "3 and 3 cannot be compared so"),
    ],
)
def test_what_does_not_fit_is_said_with_its_values(text, why):
    assert Predicate.parse(text).why_not(LEFT) == why


def test_what_is_not_there_is_not_asked_for_where_the_rest_decides():
    assert fits("metrics.accuracy > 0.9 or metrics.auc > 0.9")
    assert not fits("metrics.auc > 0.9 or metrics.accuracy > 0.9")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metrics.accuracy >=",
        "accuracy > 0.9",
        "metric.accuracy > 0.9",
        "metrics.accuracy.real > 0",
        "metrics['a']['b'] > 0",
        "metrics[0] > 0",
        "metrics > 0",
        "__import__('os').system('true')",
        "metrics.accuracy.__class__",
        "parameters.kind.startswith('r')",
        "(lambda: 1)()",
        "[x for x in parameters]",
        "metrics.accuracy + 1 > 0",
        "metrics.accuracy if true else 1",
        "metrics.accuracy is 1",
        "f'{metrics.accuracy}' == '1'",
        "{'a': 1} == 1",
        "metrics.accuracy > 1j",
        "metrics.accuracy > ~1",
        "(x := metrics.accuracy)",
        "metrics.accuracy > 0; 1",
        "a\0b",
        "b'a' == parameters.kind",
        "...",
        "(" * 300 + "true" + ")" * 300,
        "not " * 2000 + "true",
        "true or " * 1000 + "true",
    ],
)
def test_nothing_else_is_a_condition(text):
    with pytest.raises(Refused):
        Predicate.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy > 0.9", r"\(given: accuracy\)\. Write metrics\.accuracy, parameters\.accuracy, or the text"),
        ("metric.loss > 0.9", r"Did you mean metrics\.loss\?"),
        (
            "abs(metrics.loss) > 1",
            r"cannot stand in a condition \(given: abs\(metrics\.loss\)\)\. Compare metrics\.<name>",
        ),
        ("metrics.loss >", r"is no condition: .* \(given: metrics\.loss >\)\. Compare metrics"),
    ],
)
def test_a_refusal_says_what_was_given_and_what_is_allowed(text, said):
    with pytest.raises(Refused, match=said):
        Predicate.parse(text)


def test_the_names_it_asks_for_are_known():
    asked = Predicate.parse("metrics.a > 1 and (parameters.c in [1, metrics.b] or metrics.a < 0)")
    assert asked.names == (("metrics", "a"), ("parameters", "c"), ("metrics", "b"))
    assert asked.unknown([("metrics", "a"), ("metrics", "c")]) == (("parameters", "c"), ("metrics", "b"))


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_refused(text):
    try:
        asked = Predicate.parse(text)
    except Refused:
        return
    asked.why_not(LEFT)


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(NUMBERS, NUMBERS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_it_compares_as_python_does(left, right, sign):
    asked = Predicate.parse(f"metrics.x {sign} {right!r}")
    assert (asked.why_not({"metrics": {"x": left}, "parameters": {}}) is None) == eval(f"{left!r} {sign} {right!r}")
