from __future__ import annotations

import math

import pytest

from airflow_mlpipe.exceptions import ConditionError
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.gate import Gate, NotThereError, UndecidedError

METRICS = {"evaluate": {"auc": 0.83, "val/f1": 0.5, "n": 3}, "other": {"auc": 2}, "quiet": {}}


def metrics_of(step):
    if step == "later":
        raise UndecidedError(step)
    if step == "skipped":
        raise NotThereError(step)
    return METRICS[step]


def closed(text, metrics=metrics_of, **parameters):
    return Gate("${{ " + text + " }}", parameters).closed(metrics)


@pytest.mark.parametrize(
    "text",
    [
        "steps.evaluate.metrics.auc > 0.8",
        "steps.evaluate.metrics.auc >= 0.83 and steps.evaluate.metrics.n == 3",
        "0.8 < steps.evaluate.metrics.auc < 0.9 != 7",
        "steps.evaluate.metrics['val/f1'] * 2 + 1 - 1 == 1",
        "-steps.evaluate.metrics.auc < 0",
        "steps.other.metrics.auc / 2 <= 1",
        "not (steps.evaluate.metrics.auc > 0.9)",
        "parameters.dry or steps.evaluate.metrics.auc > parameters.least",
        "parameters.mode == 'full' and parameters.mode != 'quick' and parameters.mode < 'g'",
        "1 == 1.0",
    ],
)
def test_a_step_runs_where_its_condition_holds(text):
    assert closed(text, dry=False, least=0.8, mode="full") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps.evaluate.metrics.auc > 0.9", "steps.evaluate.metrics.auc > 0.9 is false: auc is 0.83"),
        (
            "steps.evaluate.metrics.auc > parameters.least",
            "steps.evaluate.metrics.auc > parameters.least is false: auc is 0.83, least is 0.95",
        ),
        (
            "steps.evaluate.metrics.auc > steps.other.metrics.auc",
            "steps.evaluate.metrics.auc > steps.other.metrics.auc is false: steps.evaluate.metrics.auc is 0.83, steps.other.metrics.auc is 2",
        ),
        ("not parameters.dry and true", "not parameters.dry and true is false: dry is true"),
        ("parameters.mode == 'quick'", "parameters.mode == 'quick' is false: mode is 'full'"),
        ("false", "false is false"),
    ],
)
def test_a_step_does_not_run_where_it_does_not_and_the_reason_says_by_what(text, said):
    assert closed(text, least=0.95, dry=True, mode="full") == Reason("run_if", said)


def test_what_cannot_change_the_outcome_is_not_looked_at():
    assert closed("parameters.dry or steps.later.metrics.x > 1", dry=True) is None
    assert closed("parameters.go and steps.quiet.metrics.x > 1", go=False) == Reason(
        "run_if", "parameters.go and steps.quiet.metrics.x > 1 is false: go is false"
    )


def test_a_metric_that_is_still_to_come_leaves_it_open():
    with pytest.raises(UndecidedError) as caught:
        closed("steps.evaluate.metrics.auc > 0.8 and steps.later.metrics.x > 1")
    assert caught.value.step == "later"


def test_a_step_is_not_run_where_the_one_it_is_judged_by_was_not():
    said = "skipped, whose metrics its condition names, was not run"
    assert closed("steps.skipped.metrics.x > 1") == Reason("upstream", said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "steps.evaluate.metrics.acu > 1",
            r"run_if: steps\.evaluate\.metrics\.acu > 1: evaluate logged no metric 'acu'; it logged: auc, n, val/f1\. Log it",
        ),
        ("steps.quiet.metrics.x > 1", r"quiet logged no metric 'x'; it logged: none\. Log it in quiet, as in Run\."),
        ("steps.evaluate.metrics.auc / 0 > 1", r"0\.83 / 0 is no finite number"),
        ("1e308 * 10 > 1", r"1e\+308 \* 10 is no finite number"),
        ("parameters.mode > 1", "'full' > 1 has no meaning: compare numbers with numbers"),
        ("parameters.mode", "parameters.mode, 'full', is neither true nor false"),
        ("parameters.mode + 1 > 1", "parameters.mode, 'full', is no number"),
        ("parameters.dry > parameters.dry", "true > true has no meaning"),
        ("parameters.none > 1", "nothing > 1 has no meaning"),
    ],
)
def test_a_condition_that_cannot_be_worked_out_says_why(text, said):
    with pytest.raises(ConditionError, match=said):
        closed(text, mode="full", dry=True, none=None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_no_finite_number_is_refused_whoever_wrote_it(value):
    with pytest.raises(ConditionError, match=r"steps\.a\.metrics\.x is (nan|inf)"):
        closed("steps.a.metrics.x > 1", lambda _: {"x": value})


def test_true_is_no_number():
    with pytest.raises(ConditionError, match="true == 1 has no meaning"):
        closed("parameters.dry == parameters.one", dry=True, one=1)
