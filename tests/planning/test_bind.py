from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, PythonScriptStep
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import StepFacts, Values, bind, components, evaluate, input_from, substitute
from airflow_mlpipe.runtime.protocol import (
    Content,
    EnvironmentSpec,
    InputSpec,
    OutputRef,
    OutputSpec,
    Reference,
    StepSpec,
)

VALUES = Values({"c": 1.0, "n": 3, "t": "x", "b": True}, {"run_after": "2026-05-01T00:00:00+00:00"})
DATA = Content("file", "sha256:" + "d" * 64, 4, 1)

WHOLE = StepSpec(
    pipeline="digits",
    step="train",
    kind="python_script",
    command=((Reference("interpreter"),), ("train.py",), ("--data=", Reference("input", "data"))),
    code="sha256:" + "c" * 64,
    inputs={"data": InputSpec("file:///data/raw.csv", DATA)},
    outputs={"model": OutputSpec("file"), "report": OutputSpec()},
    parameters={"c": 1.0, "n": 3, "t": "x", "b": True},
    run={"run_after": "2026-05-01T00:00:00+00:00"},
    environment=EnvironmentSpec(
        lock="sha256:" + "e" * 64,
        variables={"MODE": "fast"},
        secrets={"TOKEN": "connection:warehouse.password", "KEY": "variable:key"},
        facts={"system": "Linux", "machine": "x86_64", "python": "3.11.7"},
    ),
)


def command(text, **fields):
    return CommandStep(name="count", command=text, **fields)


def bound(step, values=VALUES, **facts):
    return bind("p", step, values, StepFacts(**facts))


def key(spec):
    return fingerprint(components(spec))


def changed(**fields):
    return replace(WHOLE, **fields)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("${{ parameters.c }}", 1.0),
        ("${{ parameters.n }}", 3),
        ("${{ parameters.b }}", True),
        ("${{ parameters.t }}", "x"),
        ("${{ run.run_after }}", "2026-05-01T00:00:00+00:00"),
        ("n=${{ parameters.n }}, b=${{ parameters.b }}, c=${{ parameters.c }}", "n=3, b=true, c=1.0"),
        ("", ""),
        ("plain", "plain"),
        (0.5, 0.5),
        (False, False),
    ],
)
def test_an_expression_alone_keeps_its_type_and_within_a_text_becomes_text(given, value):
    found = evaluate(given, VALUES)
    assert (found, type(found)) == (value, type(value))


def test_a_path_is_a_text_whatever_it_is_made_of():
    assert substitute("${{ parameters.n }}", VALUES) == "3"
    assert substitute("month=${{ parameters.n }}/x", VALUES) == "month=3/x"


def test_a_parameter_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(ParameterError, match=r"no parameter 'd' here; there are: b, c, n, t\. Declare it"):
        bound(command("echo ${{ parameters.d }}"))
    with pytest.raises(ParameterError, match="there are: none"):
        bound(command("echo ${{ parameters.d }}"), Values())


def test_a_moment_that_this_run_does_not_have_is_named_with_one_that_it_has():
    with pytest.raises(ParameterError, match=r"no run\.logical_date; it has run\.run_after\. Use run\.run_after"):
        bound(command("echo ${{ run.logical_date }}"))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            PythonScriptStep(
                script_name="fit.py",
                arguments=["--data=${{ inputs.data }}", "${{ parameters.c }}", "${{ run.run_after }}", "plain"],
                inputs={"data": "raw.csv"},
            ),
            (
                (Reference("interpreter"),),
                ("fit.py",),
                ("--data=", Reference("input", "data")),
                (Reference("parameter", "c"),),
                (Reference("run", "run_after"),),
                ("plain",),
            ),
        ),
        (command("wc -l < ${{ inputs.x }}", inputs={"x": "x"}), (("sh",), ("-c",), ('wc -l < "${MLPIPE_INPUT_X}"',))),
        (command(["cp", "${{ outputs.x }}"], outputs=["x"]), (("cp",), (Reference("output", "x"),))),
        (DataTransferStep(name="copy", source="a", destination="b"), ()),
    ],
    ids=["script", "text", "list", "transfer"],
)
def test_a_command_keeps_its_references(step, expected):
    assert bound(step).command == expected


def test_a_command_holds_no_value_of_a_parameter():
    step = command("echo ${{ parameters.t }}")
    assert bound(step, Values({"t": "one"})).command == bound(step, Values({"t": "two"})).command


def test_rule_2_only_the_values_that_a_step_uses_are_its_own():
    spec = bound(command(["echo", "${{ parameters.c }}", "${{ run.run_after }}"]))
    assert (spec.parameters, spec.run) == ({"c": 1.0}, {"run_after": "2026-05-01T00:00:00+00:00"})
    spec = bound(command("true"))
    assert (spec.parameters, spec.run) == ({}, {})


def test_rule_2_own_parameters_count_by_their_values():
    step = command("true", parameters={"c": "${{ parameters.n }}", "label": "run-${{ parameters.n }}", "k": 2})
    assert bound(step).parameters == {"c": 3, "label": "run-3", "k": 2}


def test_an_own_parameter_hides_that_of_the_pipeline():
    step = command("echo ${{ parameters.c }}", parameters={"c": "${{ parameters.c }}!"})
    assert bound(step).parameters == {"c": "1.0!"}


def test_a_variable_of_the_environment_holds_the_values_of_the_step():
    environment = EnvironmentSpec(variables={"RATE": "${{ parameters.rate }}", "WHEN": "${{ run.run_after }}"})
    spec = bound(command("true", parameters={"rate": 0.5}), environment=environment)
    assert spec.environment.variables == {"RATE": "0.5", "WHEN": "2026-05-01T00:00:00+00:00"}
    assert spec.run == {}


def test_what_was_read_is_taken_over():
    facts = {"code": "sha256:c", "inputs": {"x": InputSpec("file:///x")}, "outputs": {"y": OutputSpec("folder")}}
    spec = bound(command("true"), **facts)
    assert (spec.code, spec.inputs, spec.outputs) == tuple(facts.values())
    assert (spec.pipeline, spec.step, spec.kind) == ("p", "count", "command")


def test_an_input_takes_a_published_output_by_its_uri():
    wanted = InputSpec(mode="download", producer=("prepare", "clean"))
    given = input_from(OutputRef("outputs/f/c/clean", DATA), wanted, lambda path: f"file:///store/{path}")
    assert given == replace(wanted, uri="file:///store/outputs/f/c/clean", content=DATA)


def test_an_input_takes_the_output_of_a_transfer_by_the_version_that_it_left():
    output = OutputRef("s3://bucket/x", DATA, "landing", "etag:abc")
    given = input_from(output, InputSpec(producer=("copy", "data")), pytest.fail)
    assert (given.uri, given.datastore, given.token) == ("s3://bucket/x", "landing", "etag:abc")


def test_rule_1_the_components_and_the_fingerprint_of_a_step_are_pinned():
    assert components(WHOLE) == {
        "kind": "python_script",
        "command": [[{"interpreter": ""}], ["train.py"], ["--data=", {"input": "data"}]],
        "code": "sha256:" + "c" * 64,
        "environment": {
            "system": "Linux",
            "machine": "x86_64",
            "python": "3.11.7",
            "variables": {"MODE": "fast"},
            "secrets": ["KEY", "TOKEN"],
            "lock": "sha256:" + "e" * 64,
        },
        "inputs": {"data": "sha256:" + "d" * 64},
        "parameters": {"c": 1.0, "n": 3, "t": "x", "b": True},
        "run": {"run_after": "2026-05-01T00:00:00+00:00"},
        "outputs": {"model": "file", "report": None},
    }
    assert key(WHOLE) == "6a54c9422b24cb354b5704840ef390ef4ced55f62949dc2103d6674006f5b9f2"


ENVIRONMENT = WHOLE.environment
COUNTS = {
    "kind": {"kind": "command"},
    "an argument": {"command": (*WHOLE.command[:2], ("--input=", Reference("input", "data")))},
    "a reference": {"command": (*WHOLE.command[:2], ("--data=", Reference("output", "model")))},
    "code": {"code": "sha256:" + "1" * 64},
    "no code": {"code": None},
    "data": {"inputs": {"data": replace(WHOLE.inputs["data"], content=replace(DATA, digest="sha256:" + "1" * 64))}},
    "an input's name": {"inputs": {"more": WHOLE.inputs["data"]}},
    "one more input": {"inputs": {**WHOLE.inputs, "more": WHOLE.inputs["data"]}},
    "an output's kind": {"outputs": {**WHOLE.outputs, "model": OutputSpec("folder")}},
    "an output's name": {"outputs": {"model": OutputSpec("file"), "paper": OutputSpec()}},
    "one output less": {"outputs": {"model": OutputSpec("file")}},
    "a parameter": {"parameters": {**WHOLE.parameters, "c": 1.5}},
    "1 for 1.0": {"parameters": {**WHOLE.parameters, "c": 1}},
    "a text for a number": {"parameters": {**WHOLE.parameters, "c": "1.0"}},
    "1 for true": {"parameters": {**WHOLE.parameters, "b": 1}},
    "one more parameter": {"parameters": {**WHOLE.parameters, "more": ""}},
    "a moment": {"run": {"run_after": "2026-05-02T00:00:00+00:00"}},
    "no moment": {"run": {}},
    "the lock": {"environment": replace(ENVIRONMENT, lock=None)},
    "a variable": {"environment": replace(ENVIRONMENT, variables={"MODE": "slow"})},
    "no variable": {"environment": replace(ENVIRONMENT, variables={})},
    "one secret less": {"environment": replace(ENVIRONMENT, secrets={"TOKEN": "connection:warehouse.password"})},
    "Python": {"environment": replace(ENVIRONMENT, facts={**ENVIRONMENT.facts, "python": "3.12.1"})},
}
COUNTS_NOT = {
    "the pipeline's name": {"pipeline": "other"},
    "the step's name": {"step": "fit"},
    "where data lies": {"inputs": {"data": InputSpec("s3://bucket/raw.csv", DATA)}},
    "who opens it": {"inputs": {"data": replace(WHOLE.inputs["data"], datastore="landing", token="etag:1")}},
    "a download": {"inputs": {"data": replace(WHOLE.inputs["data"], mode="download")}},
    "a direct input": {"inputs": {"data": replace(WHOLE.inputs["data"], mode="direct")}},
    "who made it": {"inputs": {"data": replace(WHOLE.inputs["data"], producer=("prepare", "clean"))}},
    "how it is compared": {"inputs": {"data": replace(WHOLE.inputs["data"], compare="content")}},
    "a destination": {"outputs": {**WHOLE.outputs, "model": OutputSpec("file", "s3://bucket/m", "landing")}},
    "an asset": {"outputs": {**WHOLE.outputs, "model": OutputSpec("file", asset="models")}},
    "the order of parameters": {"parameters": dict(reversed(WHOLE.parameters.items()))},
    "the interpreter's path": {"environment": replace(ENVIRONMENT, interpreter="/opt/python/bin/python")},
    "where secrets lie": {"environment": replace(ENVIRONMENT, secrets={"KEY": "variable:k", "TOKEN": "variable:t"})},
    "that imports are observed": {"environment": replace(ENVIRONMENT, observe=True)},
}


@pytest.mark.parametrize("fields", COUNTS.values(), ids=COUNTS)
def test_rule_2_whatever_may_change_the_result_changes_the_fingerprint(fields):
    assert key(changed(**fields)) != key(WHOLE)


@pytest.mark.parametrize("fields", COUNTS_NOT.values(), ids=COUNTS_NOT)
def test_rule_3_whatever_cannot_change_the_result_leaves_the_fingerprint_as_it_is(fields):
    assert key(changed(**fields)) == key(WHOLE)


def test_rule_2_two_changes_never_make_the_same_fingerprint():
    keys = [key(changed(**fields)) for fields in COUNTS.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rule_2_a_value_that_is_no_number_has_no_fingerprint(value):
    with pytest.raises(ValueError, match="a finite number"):
        key(changed(parameters={"c": value}))


def test_rule_4_an_ignored_lock_is_no_component():
    spec = changed(environment=replace(WHOLE.environment, compare="ignore"))
    assert "lock" not in components(spec)["environment"]


def test_rule_13_the_destination_of_a_transfer_is_what_it_makes():
    copies = StepSpec("p", "copy", "data_transfer", outputs={"data": OutputSpec(destination="s3://bucket/a")})
    elsewhere = replace(copies, outputs={"data": OutputSpec(destination="s3://bucket/b")})
    assert components(copies)["outputs"] == {"data": "s3://bucket/a"}
    assert key(elsewhere) != key(copies)


def test_an_input_that_is_not_known_yet_is_said_to_be_unknown():
    draft = changed(inputs={"data": InputSpec(producer=("prepare", "clean"))})
    assert components(draft)["inputs"] == {"data": None}
