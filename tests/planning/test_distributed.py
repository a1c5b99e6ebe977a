from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import EstimatorStep, MpiStep, PythonScriptStep
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import StepFacts, Values, bind, components
from airflow_mlpipe.planning.explain import differences, sentence
from airflow_mlpipe.runtime.protocol import DistributionSpec, Reference, dump, load_spec

VALUES = Values({"n": 2, "one": 1, "c": 1.0, "t": "2", "b": True, "zero": 0}, {"run_after": "2026-05-01"})
CLUSTER = {"kind": "kubernetes"}


def n(name):
    return f"${{{{ parameters.{name} }}}}"


def estimator(**fields):
    return EstimatorStep(entry_script="train.py", **fields)


def bound(step, target=None, starter=None, values=VALUES):
    return bind("p", step, values, StepFacts(target=target or {}, starter=starter))


def key(spec):
    return fingerprint(components(spec))


def test_a_step_that_says_nothing_is_one_process():
    for step in (estimator(), PythonScriptStep(script_name="train.py")):
        assert bound(step).distribution is None
        assert "distribution" not in components(bound(step))


def test_rule_2_an_estimator_of_one_process_is_a_script_but_for_its_kind():
    own, script = bound(estimator()), bound(PythonScriptStep(script_name="train.py", outputs=["model"]))
    assert replace(own, kind="python_script") == replace(script, outputs=own.outputs)
    assert key(own) != key(replace(own, kind="python_script"))


def test_counts_and_options_take_the_values_of_the_run():
    step = estimator(
        distribution={"kind": "torchrun", "nodes": n("n"), "processes_per_node": 4, "options": ["--at", n("c")]}
    )
    spec = bound(step, CLUSTER)
    assert spec.distribution == DistributionSpec("torchrun", 2, 4, ("--at", "1.0"), "first")
    assert load_spec(dump(spec)) == spec


def test_an_mpi_step_is_started_by_mpirun_with_its_hostfile():
    more = {"hostfile": "hosts", "options": ["-v"], "outputs_of": "each"}
    spec = bound(MpiStep(script_name="a.py", process_count_per_node=n("n"), **more))
    assert spec.distribution == DistributionSpec("mpi", 1, 2, ("--hostfile", "hosts", "-v"), "each")
    assert spec.command == ((Reference("interpreter"),), ("a.py",))


def test_an_mpi_step_may_run_any_command():
    step = MpiStep(name="a", command=["./solve", n("c")])
    assert (bound(step).command, bound(step).parameters) == ((("./solve",), (Reference("parameter", "c"),)), {"c": 1.0})
    assert bound(MpiStep(name="a", command=f"./solve {n('c')}")).command[0] == ("sh",)


def test_the_framework_says_what_starts_the_processes_where_the_step_does_not():
    assert bound(estimator(distribution={}), starter="torchrun").distribution.kind == "torchrun"
    assert bound(estimator(distribution={"kind": "mpi"}), starter="torchrun").distribution.kind == "mpi"
    with pytest.raises(ParameterError, match=r"^train: nothing says what starts .*torchrun, mpi or tensorflow"):
        bound(estimator(distribution={}))


@pytest.mark.parametrize(("name", "value"), [("zero", "0"), ("c", "1.0"), ("t", "'2'"), ("b", "True")])
@pytest.mark.parametrize(
    ("step", "field"),
    [
        (lambda count: estimator(distribution={"kind": "mpi", "nodes": count}), "distribution.nodes"),
        (lambda count: estimator(distribution={"kind": "mpi", "processes_per_node": count}), "processes_per_node"),
        (lambda count: MpiStep(name="train", command="x", node_count=count), "node_count"),
        (lambda count: MpiStep(name="train", command="x", process_count_per_node=count), "process_count_per_node"),
    ],
)
def test_a_count_that_comes_to_none_is_refused_with_its_value(name, value, step, field):
    with pytest.raises(ParameterError) as caught:
        bound(step(n(name)), CLUSTER)
    text = str(caught.value)
    assert text.startswith("train: ")
    assert f"{field} is {n(name)}, which comes to {value} in this run" in text
    assert "it must be a whole number of at least 1" in text
    assert "type: integer" in text


@pytest.mark.parametrize(("target", "kind"), [({}, "local"), ({"kind": "docker"}, "docker")])
def test_more_nodes_than_the_target_has_are_refused_in_the_run_too(target, kind):
    step = MpiStep(name="ranks", command="x", node_count=n("n"))
    message = f"^ranks: node_count is 2, and the step runs on a {kind} target, which is one machine"
    with pytest.raises(ParameterError, match=message):
        bound(step, target)
    assert bound(step, CLUSTER).distribution.nodes == 2
    assert bound(step, target, values=Values({"n": 1})).distribution.nodes == 1


def test_rule_2_a_count_counts_by_its_number_whatever_says_it():
    written, named = (
        estimator(distribution={"kind": "mpi", "processes_per_node": 2}),
        estimator(distribution={"kind": "mpi", "processes_per_node": n("n")}),
    )
    assert key(bound(written)) == key(bound(named))
    assert bound(named).parameters == {}


DISTRIBUTION = {"kind": "torchrun", "nodes": 2, "processes_per_node": 2, "options": ["-v"], "outputs_of": "first"}


@pytest.mark.parametrize(
    "changed",
    [{"kind": "mpi"}, {"nodes": 3}, {"processes_per_node": 3}, {"options": []}, {"outputs_of": "each"}],
    ids=lambda changed: next(iter(changed)),
)
def test_rule_2_all_of_a_distribution_counts(changed):
    before = bound(estimator(distribution=DISTRIBUTION), CLUSTER)
    assert key(before) != key(bound(estimator(distribution={**DISTRIBUTION, **changed}), CLUSTER))


def test_rule_2_the_nodes_of_an_mpi_step_count():
    two, three = (bound(MpiStep(name="a", command="x", node_count=count), CLUSTER) for count in (2, 3))
    assert key(two) != key(three)


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"kind": "mpi"}, {"kind": "mpi", "processes_per_node": 4}, "distribution processes: 1 -> 4"),
        ({"kind": "mpi"}, {"kind": "torchrun"}, "distribution kind: mpi -> torchrun"),
        (None, {"kind": "mpi"}, "distribution is new: kind=mpi, nodes=1, options=, outputs=first, processes=1"),
        ({"kind": "mpi"}, None, "distribution is gone (was kind=mpi, nodes=1, options=, outputs=first, processes=1)"),
    ],
)
def test_a_change_of_the_distribution_is_said_in_words(before, now, words):
    old, new = (components(bound(estimator(distribution=given))) for given in (before, now))
    assert [sentence(reason) for reason in differences(old, new, lambda _: None)] == [words]
