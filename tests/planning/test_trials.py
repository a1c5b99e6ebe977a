from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import CommandStep, Sweep
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import StepFacts, Values, bind, components
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.planning.trials import best_of, label, objective_of, trials_of
from airflow_mlpipe.runtime.composite import SweepSpec
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, OutputSpec, dump, load_spec

VALUES = Values({"c": 5.0, "kernel": "rbf"})
COMMAND = "train ${{ parameters.c }} ${{ parameters.kernel }} > ${{ outputs.model }}"


def bound(sweep=None, parameters=None, outputs=None):
    step = CommandStep(name="tune", command=COMMAND, outputs=["model"], sweep=sweep, parameters=parameters or {})
    return bind("p", step, VALUES, StepFacts(outputs=outputs or {"model": OutputSpec()}))


def swept(*values, goal="maximize", **fields):
    return Sweep(parameters={"c": list(values)}, objective={"metric": "auc", "goal": goal}, **fields)


def digest(spec):
    return fingerprint(components(spec))


def found(**metrics):
    return Found(1, {}, metrics)


def test_a_trial_is_a_plain_step_with_the_same_parameters():
    first, second = trials_of(bound(swept(0.1, 1.0)))
    assert first.fingerprint == digest(bound(parameters={"c": 0.1}))
    assert second.fingerprint == digest(bound(parameters={"c": 1.0}))
    assert first.spec.step == "tune[1]"
    assert str(second) == "trial 2 (c=1.0)"


def test_a_sweep_takes_the_place_of_a_pipeline_parameter():
    spec = bound(swept(0.1))
    assert spec.parameters == {"kernel": "rbf"}
    assert trials_of(spec)[0].spec.parameters == {"kernel": "rbf", "c": 0.1}


def test_a_plain_step_has_no_trials():
    assert trials_of(bound()) == ()


def test_rule_2_the_trials_and_the_objective_are_in_the_fingerprint_of_a_sweep():
    base = bound(swept(0.1, 1.0))
    others = [
        bound(swept(0.1, 2.0)),
        bound(swept(1.0, 0.1)),
        bound(swept(0.1, 1.0, goal="minimize")),
        bound(swept(0.1, 1.0, max_failed=1)),
        bound(parameters={"c": 0.1}),
    ]
    assert len({digest(spec) for spec in (base, *others)}) == 6


def test_rule_3_how_many_run_side_by_side_is_not_in_it():
    assert digest(bound(swept(0.1, 1.0))) == digest(bound(swept(0.1, 1.0, max_concurrent=2, max_trials=9)))


def test_rule_1_the_components_of_a_sweep_are_pinned():
    assert components(bound(swept(0.1)))["sweep"] == {"trials": [{"c": 0.1}], "metric": "auc", "goal": "maximize"}
    assert digest(bound(swept(0.1))) == "c273c3cdfb7d46ec5859b3dd3d10216940e645084c34921b3cac72ed131ae1cf"


def test_a_step_without_a_sweep_has_the_fingerprint_it_always_had():
    assert "sweep" not in components(bound())


def test_what_a_trial_leaves_goes_nowhere_and_updates_no_asset():
    spec = bound(swept(0.1), outputs={"model": OutputSpec("file", "file:///there", "d", "churn://model")})
    assert trials_of(spec)[0].spec.outputs == {"model": OutputSpec("file")}


def test_a_sweep_crosses_a_process_boundary():
    spec = bound(swept(0.1, 1.0, max_failed=2))
    assert load_spec(dump(spec)) == spec
    assert load_spec(dump(bound())).sweep is None


def best(goal="maximize", **scores):
    sweep = SweepSpec((), "auc", goal)
    trials = [replace(trials_of(bound(swept(1.0)))[0], number=number) for number in range(1, len(scores) + 1)]
    chosen = best_of(sweep, zip(trials, scores.values(), strict=True))
    return chosen and chosen[0].number


def test_the_best_trial_is_the_one_with_the_greatest_or_the_least_objective():
    scores = {"a": found(auc=0.5), "b": found(auc=0.9), "c": found(auc=0.1)}
    assert best(**scores) == 2
    assert best("minimize", **scores) == 3


def test_of_equals_the_trial_with_the_lowest_number_is_the_best():
    assert best(a=found(auc=0.5), b=found(auc=0.9), c=found(auc=0.9)) == 2
    assert best("minimize", a=found(auc=0.5), b=found(auc=0.1), c=found(auc=0.1)) == 2


def test_a_trial_without_the_objective_is_never_the_best():
    assert best(a=found(loss=0.5), b=found(auc=0.1), c=found(auc=float("nan"))) == 2
    assert best(a=found(loss=0.5)) is None


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"loss": 1.0, "acc": 0.5}, "it logged no metric 'auc', which is the objective; it logged: acc, loss. Log it"),
        ({}, "it logged: none"),
        ({"auc": float("nan")}, "its metric 'auc', which is the objective, is nan: log a finite number"),
    ],
)
def test_what_is_wrong_with_the_objective_is_said(metrics, words):
    said = objective_of(SweepSpec((), "auc", "maximize"), metrics)
    assert isinstance(said, str)
    assert words in said


def test_a_trial_is_named_by_its_parameters():
    assert label({"c": 0.1, "kernel": "rbf", "shrink": True}) == "c=0.1, kernel=rbf, shrink=true"


def test_a_variable_of_a_named_environment_has_no_value_of_the_pipeline_in_place_of_the_swept_one():
    step = CommandStep(name="tune", command=COMMAND, outputs=["model"], sweep=swept(0.1, 1.0))
    environment = EnvironmentSpec(variables={"C": "${{ parameters.c }}"})
    facts = StepFacts(environment=environment, outputs={"model": OutputSpec()})
    with pytest.raises(ParameterError, match="there is no parameter 'c' here"):
        bind("p", step, VALUES, facts)
