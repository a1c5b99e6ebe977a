from __future__ import annotations

from textwrap import dedent

import pytest

from airflow_mlpipe.definitions import Environment, Pipeline
from airflow_mlpipe.definitions.faults import Fault
from airflow_mlpipe.definitions.reading import look
from airflow_mlpipe.exceptions import DefinitionError


def found(cls, text):
    looked = look(cls, dedent(text), "f.yaml")
    return [(problem.line, problem.where) for problem in sorted(looked.problems)]


def test_a_sound_text_is_a_definition():
    assert look(Environment, "python: python3", "f.yaml").sound() == Environment(python="python3")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[a]", "just text", "3"])
def test_a_text_that_is_no_mapping_is_refused(text):
    with pytest.raises(DefinitionError, match="field: value"):
        look(Environment, text, "f.yaml").sound()


def test_what_is_wrong_in_one_place_does_not_hide_what_is_wrong_in_another():
    text = """
    nam: p
    steps:
      a:
        kind: command
        comand: "echo ${{ inputs.y }}"
        outputs: {../x: {}, o: {kind: fil}}
      b:
        kind: comand
        command: "echo ${{ parameters.c }}"
        retries: many
        inputs: {x: "${{ steps.a.outputs.p }}"}
      c:
        kind: python_script
        run_after: [d]
    """
    assert found(Pipeline, text) == [
        (2, "nam"),
        (6, "steps.a.comand"),
        (6, "steps.a.command"),
        (7, "steps.a.outputs.../x"),
        (7, "steps.a.outputs.o.kind"),
        (9, "steps.b.kind"),
        (10, "steps.b.command"),
        (11, "steps.b.retries"),
        (12, "steps.b.inputs.x"),
        (13, "steps.c.script_name"),
        (15, "steps.c.run_after[0]"),
    ]


def test_what_only_follows_from_something_wrong_is_not_reported():
    text = """
    name: p
    parameters:
      c: {type: number, default: x, choices: 3}
    steps:
      a: {kind: command, command: "echo ${{ inputs.x }}", inputs: {x: 3}, outputs: {o: 3}}
      b: {kind: command, command: "echo ${{ parameters.c }}", inputs: {x: "${{ steps.a.outputs.o }}"}}
      c d: {kind: command, command: "true"}
      e: {kind: command, command: "true", run_after: ["c d"]}
      f: {kind: command, command: "true", inputs: {x: {url: "http://u:p@h/x"}, y: {url: nothing}}}
    """
    assert [where for _, where in found(Pipeline, text)] == [
        "parameters.c.default",
        "parameters.c.choices",
        "steps.a.inputs.x",
        "steps.a.outputs.o",
        "steps.c d",
        "steps.f.inputs.x.url",
        "steps.f.inputs.y.url",
    ]


def test_later_items_of_a_list_keep_their_places():
    text = """
    name: p
    steps:
      a:
        kind: command
        command:
          - "${{ nonsense }}"
          - "${{ inputs.x }}"
          - "${{ parameters.x }}"
    """
    assert found(Pipeline, text) == [
        (7, "steps.a.command[0]"),
        (8, "steps.a.command[1]"),
        (9, "steps.a.command[2]"),
    ]


def test_a_list_of_steps_is_looked_at_like_a_mapping():
    text = """
    name: p
    steps:
      - {name: a, kind: command, command: "true", retrie: 1}
      - - {name: b, kind: command, command: "true", run_after: [x]}
        - {kind: command, command: "true"}
      - {name: a, kind: command, command: "true"}
    """
    assert found(Pipeline, text) == [
        (4, "steps.a.retrie"),
        (5, "steps.b.run_after[0]"),
        (6, "steps[1][1]"),
        (7, "steps[2]"),
    ]


def test_more_faults_are_taken_in_but_for_those_that_follow():
    looked = look(Environment, "compare: x\npython: p\n", "f.yaml")
    looked.add([Fault(("python",), "is not there"), Fault(("name",), "follows", about=("compare",))])
    assert [problem.where for problem in looked.problems] == ["compare", "python"]
