from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import MpiStep, Objective, PythonScriptStep, Range, Sweep, dump, loads
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import problems, read, step

AUC = {"metric": "auc", "goal": "maximize"}


def sweep(parameters, **fields):
    return Sweep(parameters=parameters, objective=AUC, **fields)


def drawn(parameters, count, **fields):
    return sweep(parameters, sampling="random", max_trials=count, **fields).trials


def test_a_grid_is_every_combination_and_the_last_parameter_changes_first():
    trials = sweep({"c": [1, 2], "kernel": ["rbf", "poly"]}).trials
    assert [tuple(trial.values()) for trial in trials] == [(1, "rbf"), (1, "poly"), (2, "rbf"), (2, "poly")]


def test_a_list_with_one_fraction_is_a_list_of_fractions():
    assert [repr(trial["c"]) for trial in sweep({"c": [0.1, 1, 10]}).trials] == ["0.1", "1.0", "10.0"]


def test_truth_is_no_number_in_a_list():
    assert [trial["c"] for trial in sweep({"c": [True, 2, 0.5]}).trials] == [True, 2, 0.5]
    assert [trial["c"] for trial in sweep({"c": [1, True]}).trials] == [1, True]


def test_a_number_with_an_exponent_is_a_number_though_yaml_takes_it_for_a_text(tmp_path):
    pipeline = read(
        """
        name: p
        steps:
          tune:
            kind: command
            command: train
            outputs: [model]
            sweep:
              parameters: {lr: {minimum: 1e-4, maximum: 1e-1, log: true}, c: [1e-3, 1]}
              sampling: random
              max_trials: 3
              objective: {metric: auc, goal: maximize}
        """,
        tmp_path,
    )
    space = pipeline.step("tune").sweep.parameters
    assert space["lr"] == Range(minimum=1e-4, maximum=1e-1, log=True)
    assert space["c"] == (0.001, 1.0)


def test_the_same_seed_draws_the_same_trials_whatever_the_order_of_the_parameters():
    lr, c = {"minimum": 1e-4, "maximum": 1e-1, "log": True}, [0.1, 1.0]
    assert drawn({"lr": lr, "c": c}, 4) == drawn({"c": c, "lr": lr}, 4)
    assert drawn({"lr": lr}, 4) != drawn({"lr": lr}, 4, seed=1)


def test_the_numbers_that_are_drawn_stay_the_same_in_every_version():
    lr = {"minimum": 1e-4, "maximum": 1e-1, "log": True}
    assert drawn({"lr": lr, "n": {"minimum": 1, "maximum": 4}}, 3) == (
        {"lr": 0.000268625, "n": 3},
        {"lr": 0.053716, "n": 3},
        {"lr": 0.000817417, "n": 1},
    )


def test_more_trials_are_the_same_and_more():
    lr = {"minimum": 0.0, "maximum": 1.0}
    assert drawn({"lr": lr}, 9)[:4] == drawn({"lr": lr}, 4)


def test_no_trial_is_drawn_twice():
    trials = drawn({"n": {"minimum": 1, "maximum": 5}, "kernel": ["a", "b"]}, 8)
    assert len({tuple(trial.items()) for trial in trials}) == len(trials) == 8


def test_whoever_draws_more_than_there_are_gets_all():
    assert sorted(trial["n"] for trial in drawn({"n": {"minimum": 1, "maximum": 3}}, 50)) == [1, 2, 3]
    assert [trial["c"] for trial in drawn({"c": [5, 6, 7]}, 50)] == [5, 6, 7]


def test_a_range_too_narrow_for_all_trials_gives_those_it_has():
    assert len(drawn({"c": {"minimum": 1.0, "maximum": 1.000002}}, 5)) < 5


def test_drawn_numbers_stay_within_their_range_and_whole_ones_are_whole():
    trials = drawn({"n": {"minimum": 2, "maximum": 9, "log": True}, "x": {"minimum": -1.5, "maximum": 2.5}}, 60)
    assert {type(trial["n"]) for trial in trials} == {int}
    assert {trial["n"] for trial in trials} == set(range(2, 10))
    assert all(-1.5 <= trial["x"] <= 2.5 for trial in trials)
    assert all(repr(trial["x"]) == repr(float(f"{trial['x']:.6g}")) for trial in trials)


def test_a_logarithmic_range_draws_each_order_of_magnitude_as_often():
    values = [trial["lr"] for trial in drawn({"lr": {"minimum": 1e-4, "maximum": 1.0, "log": True}}, 400)]
    assert all(60 < sum(10.0**e <= value < 10.0 ** (e + 1) for value in values) < 140 for e in range(-4, 0))


@pytest.mark.parametrize(
    ("parameters", "fields", "said"),
    [
        ({}, {}, ["Sweep.parameters: is empty. Give at least one parameter with the values to try"]),
        ({"c": []}, {}, ["Sweep.parameters.c: is empty. Give at least one value"]),
        ({"c": [1, 1]}, {}, ["Sweep.parameters.c[1]: is there twice (given: 1). Leave it out"]),
        ({"c": [1, 2]}, {"max_trials": 0}, ["Sweep.max_trials: must be at least 1 (given: 0)"]),
        ({"c": [1, 2]}, {"sampling": "random"}, ["Sweep.max_trials: is missing"]),
        ({"c": {"minimum": 1, "maximum": 2}}, {}, ["Sweep.parameters.c: is a range, which has no end of values"]),
        ({"c": {"minimum": 2, "maximum": 1}}, {}, ["Sweep.parameters.c.minimum: must be less than the maximum, 1"]),
        (
            {"c": {"minimum": 0, "maximum": 1, "log": True}},
            {},
            ["Sweep.parameters.c.minimum: must be greater than 0 where log is true (given: 0)"],
        ),
        ({"c": 3}, {}, ["Sweep.parameters.c: must be a list of values, or a range (given: 3). Write [0.1, 1.0]"]),
        ({"c": [1, 2, 3]}, {"max_trials": 2}, ["Sweep.max_trials: is less than the 3 points of the grid (given: 2)"]),
        ({"c": ["${{ parameters.x }}"]}, {}, ["Sweep.parameters.c[0]: must not hold an expression"]),
        ({"c": [1]}, {"max_concurrent": 0}, ["Sweep.max_concurrent: must be at least 1 (given: 0)"]),
        ({"c": [1]}, {"sampling": "bayesian"}, ["Sweep.sampling: must be one of grid, random"]),
    ],
)
def test_what_is_wrong_with_a_sweep_is_said(parameters, fields, said):
    found = problems(sweep, parameters, **fields)
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


def test_a_sweep_without_an_objective_is_refused():
    assert problems(Sweep, parameters={"c": [1]}) == ["Sweep.objective: is missing. Give objective"]
    assert "goal" in problems(Objective, metric="auc")[0]


def swept(**fields):
    given = {"parameters": {"c": [1, 2]}, "objective": AUC}
    return step("tune", **{"outputs": ["model"], "sweep": given, **fields})


def test_a_sweep_needs_an_output_and_leaves_the_name_of_its_table_free():
    assert "outputs: is missing" in problems(swept, outputs=[])[0]
    assert "leaves the table of its trials" in problems(swept, outputs=["trials"])[0]


def test_a_parameter_given_twice_is_refused_even_in_other_letters():
    assert "is given by parameters.C too" in problems(swept, parameters={"C": 1})[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"environment": {"variables": {"LEVEL": "${{ parameters.c }}"}}},
        {"inputs": {"raw": {"path": "raw/${{ parameters.c }}.csv"}}},
        {"parameters": {"again": "${{ parameters.c }}"}},
    ],
)
def test_what_is_bound_once_for_all_trials_names_no_parameter_of_the_sweep(fields):
    assert "names a parameter of the sweep, which differs from trial to trial" in problems(swept, **fields)[0]


PIPELINE = """
    name: p
    parameters: {{c: 1.0}}
    steps:
      tune:
        kind: command
        command: "train ${{{{ parameters.c }}}} ${{{{ parameters.lr }}}}"
        outputs: [model]
        sweep:
          parameters: {{c: [0.1, 1], lr: [0.5]}}
          objective: {{metric: auc, goal: maximize}}
      {other}: {{kind: command, command: "true"}}
"""


def test_a_sweep_may_take_the_place_of_a_pipeline_parameter_and_declares_its_own(tmp_path):
    pipeline = read(PIPELINE.format(other="other"), tmp_path)
    assert [trial["c"] for trial in pipeline.step("tune").sweep.trials] == [0.1, 1.0]


def test_a_sweep_comes_back_from_its_yaml(tmp_path):
    pipeline = read(PIPELINE.format(other="other"), tmp_path)
    assert loads(dump(pipeline), tmp_path) == pipeline
    assert loads(dump(pipeline), tmp_path).digest == pipeline.digest


@pytest.mark.parametrize("name", ["tune.plan", "tune.trial"])
def test_no_step_has_the_name_of_a_task_of_a_sweep(name, tmp_path):
    found = problems(read, PIPELINE.format(other=name), tmp_path)
    assert found[0].startswith(f"steps.{name}: is the name of a task that the step tune has")


def test_a_python_step_takes_a_sweep_of_objects():
    given = Sweep(parameters={"c": [1, 2]}, objective=Objective(metric="loss", goal="minimize"))
    made = PythonScriptStep(
        script_name="train.py", arguments=["--c", "${{ parameters.c }}"], outputs=["m"], sweep=given
    )
    assert made.sweep is given


def test_a_module_may_hold_a_sweep_whose_parameters_are_its_own(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tuned-1.0.yaml").write_text(
        """
        name: tuned
        version: "1.0"
        parameters: {kernel: rbf}
        step:
          kind: command
          command: "train ${{ parameters.c }} ${{ parameters.kernel }}"
          outputs: [model]
          sweep: {parameters: {c: [1, 2]}, objective: {metric: auc, goal: maximize}}
        """
    )
    text = "name: p\nsteps: {tune: {kind: module, module: tuned, parameters: {kernel: poly}}}\n"
    (step_of_module,) = read(text, tmp_path).steps
    assert step_of_module.parameters == {"kernel": "poly"}
    assert [trial["c"] for trial in step_of_module.sweep.trials] == [1, 2]


def test_options_of_mpirun_name_no_parameter_of_the_sweep():
    space = {"parameters": {"c": [1, 2]}, "objective": {"metric": "auc", "goal": "maximize"}}
    with pytest.raises(DefinitionError, match="names a parameter of the sweep, which differs from trial to trial"):
        MpiStep(name="a", script_name="a.py", outputs=["m"], options=["-n", "${{ parameters.c }}"], sweep=space)
