"""Definitions that cannot be used: each is refused with file, line, column, what was given and what to do."""

from __future__ import annotations

from textwrap import dedent

import pytest

from airflow_mlpipe.definitions import load_pipeline
from airflow_mlpipe.exceptions import DefinitionError

BAD = {
    "broken YAML": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true"
          b: {kind: command, command: "true"}
        """,
        "4:3: ",
        "expected ',' or '}'",
    ),
    "no YAML mapping": ("- a\n- b\n", "1:1: ", "mapping"),
    "an empty file": ("", "1:1: ", "empty"),
    "an unknown field": (
        """\
        name: p
        schedul: "@daily"
        steps: {a: {kind: command, command: "true"}}
        """,
        "2:1: schedul: ",
        "Did you mean schedule?",
    ),
    "a cycle": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true", inputs: {x: "${{ steps.b.outputs.y }}"}, outputs: [y]}
          b: {kind: command, command: "true", inputs: {x: "${{ steps.a.outputs.y }}"}, outputs: [y]}
        """,
        "4:3: steps.b: ",
        "in a circle (given: a -> b -> a)",
    ),
    "two producers of one place": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true", outputs: {x: {destination: s3://b/x}}}
          b: {kind: command, command: "true", outputs: {y: {destination: s3://b/x}}}
        """,
        "4:66: steps.b.outputs.y.destination: ",
        "is also where steps.a.outputs.x goes",
    ),
    "a dangling input": (
        """\
        name: p
        steps:
          prepare: {kind: command, command: "true", outputs: [clean]}
          train: {kind: command, command: "true", inputs: {x: "${{ steps.prepar.outputs.clean }}"}}
        """,
        "4:55: steps.train.inputs.x: ",
        "(given: ${{ steps.prepar.outputs.clean }}). Did you mean steps.prepare?",
    ),
    "a dangling output": (
        """\
        name: p
        steps:
          prepare: {kind: command, command: "true", outputs: [clean]}
          train: {kind: command, command: "true", inputs: {x: "${{ steps.prepare.outputs.cleen }}"}}
        """,
        "4:55: steps.train.inputs.x: ",
        "Did you mean steps.prepare.outputs.clean?",
    ),
    "a dangling parameter": (
        """\
        name: p
        parameters: {rate: 0.1}
        steps:
          a: {kind: command, command: "echo ${{ parameters.rat }}"}
        """,
        "4:31: steps.a.command: ",
        "(given: ${{ parameters.rat }}). Did you mean parameters.rate?",
    ),
    "one step twice": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true"}
          a: {kind: command, command: "false"}
        """,
        "4:3: steps.a: ",
        "is there twice",
    ),
    "one name twice in a list": (
        """\
        name: p
        steps:
          - {name: a, kind: command, command: "true"}
          - {name: a, kind: command, command: "false"}
        """,
        "4:5: steps[1]: ",
        "is the name of another step too (given: a)",
    ),
    "a wrong type": (
        """\
        name: p
        parameters: {rate: {type: number, default: fast}}
        steps: {a: {kind: command, command: "true"}}
        """,
        "2:44: parameters.rate.default: ",
        "must be a number (given: fast)",
    ),
    "an unknown kind": (
        """\
        name: p
        steps: {a: {kind: comand, command: "true"}}
        """,
        "2:19: steps.a.kind: ",
        "Did you mean command?",
    ),
    "a name with spaces": (
        """\
        name: p
        steps:
          my step: {kind: command, command: "true"}
        """,
        "3:3: steps.my step: ",
        "a name consists of ASCII letters, digits, '_', '-' and '.'",
    ),
    "a name in unicode": (
        """\
        name: größe
        steps: {a: {kind: command, command: "true"}}
        """,
        "1:7: name: ",
        "(given: größe)",
    ),
    "a name of 300 characters": (
        f"name: {'x' * 300}\nsteps: {{a: {{kind: command, command: 'true'}}}}\n",
        "1:7: name: ",
        "a name has at most 200 characters, this one has 300",
    ),
    "an output outside": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true", outputs: {../x: {}}}
        """,
        "3:49: steps.a.outputs.../x: ",
        "a name consists of",
    ),
    "a script outside": (
        """\
        name: p
        steps:
          a: {kind: python_script, script_name: ../train.py}
        """,
        "3:41: steps.a.script_name: ",
        "must not lead out of its folder (given: ../train.py)",
    ),
    "data outside of its datastore": (
        """\
        name: p
        steps:
          a: {kind: command, command: "true", inputs: {x: {datastore: landing, path: ../secret}}}
        """,
        "3:78: steps.a.inputs.x.path: ",
        "leaves the datastore (given: ../secret). Give a path below the datastore's root",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_definition_is_said_with_its_place_and_a_remedy(tmp_path, name):
    text, place, words = BAD[name]
    file = tmp_path / "p.yaml"
    file.write_text(dedent(text))
    with pytest.raises(DefinitionError) as caught:
        load_pipeline(file)
    problems = [str(problem) for problem in caught.value.problems]
    assert any(problem.startswith(f"{file}:{place}") and words in problem for problem in problems), problems
    assert "\n" not in "".join(problems)


def test_everything_that_is_wrong_with_a_file_comes_at_once_and_in_its_order(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: a b\nschedul: '@daily'\nsteps:\n  a: {kind: command, command: 'true', retries: -1, inputs: {x: '${{ steps.z.outputs.x }}'}}\n"
    )
    with pytest.raises(DefinitionError, match="3 problems") as caught:
        load_pipeline(file)
    assert [(problem.line, problem.where) for problem in caught.value.problems] == [
        (1, "name"),
        (2, "schedul"),
        (4, "steps.a.retries"),
    ]
