from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions.expressions import (
    Ref,
    misplaced,
    parse,
    refs,
    shell_text,
    shell_variable,
    substitute,
)
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("plain", ("plain",)),
        ("${{ parameters.c }}", (Ref("parameters", "c"),)),
        ("${{inputs.raw}}", (Ref("inputs", "raw"),)),
        ("--out=${{ outputs.model }}/x", ("--out=", Ref("outputs", "model"), "/x")),
        ("${{ steps.a.b-1.outputs.x }}", (Ref("steps", "x", "a.b-1"),)),
        ("${{ run.logical_date }}${{ run.run_after }}", (Ref("run", "logical_date"), Ref("run", "run_after"))),
        ("{{ ds }} $ {x} ${x}", ("{{ ds }} $ {x} ${x}",)),
    ],
)
def test_a_text_is_its_literal_parts_and_references(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("${{ parameter.c }}", "Did you mean parameters.c?"),
        ("${{ input.raw }}", "Did you mean inputs.raw?"),
        ("${{ run.logical_dat }}", "Did you mean run.logical_date?"),
        ("${{ run.run_id }}", "could never be reused; use run.run_after"),
        ("${{ steps.a.x }}", "Write ${{ steps.<step>.outputs.<output> }}"),
        ("${{ }}", "Allowed are ${{ parameters.<name> }}"),
        ("${{ 1 + 1 }}", "Allowed are"),
        ("${{ env.HOME }}", "Allowed are"),
        ("${{ inputs.raw", "Write }} after it"),
    ],
)
def test_anything_else_inside_an_expression_is_refused_with_a_remedy(text, remedy):
    with refused(remedy):
        parse(text)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
references = st.one_of(
    st.builds(Ref, st.sampled_from(["parameters", "inputs", "outputs"]), names),
    st.builds(lambda step, name: Ref("steps", name, step), st.from_regex(r"[a-z][a-z.-]{0,6}", fullmatch=True), names),
)


@given(st.lists(st.one_of(references, st.text(st.characters(exclude_characters="${}"), min_size=1))))
def test_what_is_written_out_is_parsed_as_it_was(parts):
    joined = [
        part
        for index, part in enumerate(parts)
        if index == 0 or not (isinstance(part, str) and isinstance(parts[index - 1], str))
    ]
    assert parse("".join(map(str, joined))) == tuple(joined)


def test_references_are_replaced_and_the_rest_stays():
    assert substitute("a ${{ parameters.x }} b", lambda ref: ref.name.upper()) == "a X b"


def test_a_reference_is_only_taken_where_it_means_something():
    assert misplaced("${{ parameters.x }}", ("path",), ("parameters", "run")) == []
    (fault,) = misplaced("${{ inputs.x }}", ("path",), ("parameters", "run"))
    assert fault.remedy == "It may hold ${{ parameters.<name> }}, ${{ run.<name> }}"
    (fault,) = misplaced("${{ steps.a.outputs.x }}", ("arguments", 0), ("inputs", "outputs"))
    assert "Declare an input" in fault.remedy


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("cat ${{ inputs.raw }}", 'cat "${MLPIPE_INPUT_RAW}"'),
        ('cat "${{ inputs.raw }}/x"', 'cat "${MLPIPE_INPUT_RAW}/x"'),
        ("echo '${{ parameters.x }}'", "echo ''\"${MLPIPE_PARAMETER_X}\"''"),
        ("# don't\necho ${{ parameters.x }}", '# don\'t\necho "${MLPIPE_PARAMETER_X}"'),
        ("echo \\' ${{ run.run_after }}", 'echo \\\' "${MLPIPE_RUN_RUN_AFTER}"'),
        ("cat <<EOF\n${{ parameters.x }}\nEOF", "cat <<EOF\n${MLPIPE_PARAMETER_X}\nEOF"),
        ("echo a#b ${{ parameters.x }}", 'echo a#b "${MLPIPE_PARAMETER_X}"'),
    ],
)
def test_a_shell_command_reads_its_references_from_quoted_variables(command, expected):
    assert shell_text(command) == expected


@given(
    st.sampled_from(
        ["printf %s ${{ parameters.x }}", "printf %s '${{ parameters.x }}'", 'printf %s "${{ parameters.x }}"']
    ),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
)
def test_no_value_is_read_as_shell_syntax(command, value):
    environment = {**os.environ, "MLPIPE_PARAMETER_X": value}
    done = subprocess.run(["sh", "-c", shell_text(command)], env=environment, capture_output=True, check=True)
    assert done.stdout == value.encode()


def test_the_output_of_another_step_has_no_variable():
    with pytest.raises(ValueError, match="declare it as an input"):
        shell_variable(refs("${{ steps.a.outputs.x }}")[0])
