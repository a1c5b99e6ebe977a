from __future__ import annotations

from datetime import date

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions.yaml_nodes import Reader, compose, place
from airflow_mlpipe.exceptions import DefinitionError


def data(text):
    reader = Reader()
    made = reader.data(compose(text, "f.yaml"))
    return made, [(node.start_mark.line + 1, fault.message) for node, fault in reader.faults]


plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])),
        st.dates(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(st.characters(codec="ascii", categories=["L"]), max_size=3), inner, max_size=3),
    ),
    max_leaves=10,
)


@given(plain)
def test_yaml_reads_as_it_does_elsewhere(value):
    text = yaml.safe_dump(value)
    made, faults = data(text)
    assert faults == []
    assert made == yaml.safe_load(text)


def test_anchors_and_merge_keys_work():
    text = """
    base: &base {retries: 2, kind: command}
    more: &more {pool: x}
    a: {<<: *base, kind: python_script}
    b: {<<: [*base, *more]}
    c: *base
    """
    made, faults = data(text)
    assert faults == []
    assert made == yaml.safe_load(text)


def test_numbers_remember_how_they_were_written():
    made, _ = data("[1.10, 010, 1.5, 2, 2024-01-02]")
    assert made == [1.1, 8, 1.5, 2, date(2024, 1, 2)]
    assert [getattr(number, "text", None) for number in made] == ["1.10", "010", None, None, None]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\na: 2\n", 2, "is there twice"),
        ("a: {x: 1, x: 2}\n", 1, "is there twice"),
        ("a: !!python/object:os.system x\n", 1, "which means nothing here"),
        ("a: !secret x\n", 1, "which means nothing here"),
        ("a: !mine [1]\n", 1, "which means nothing here"),
        ("a: !mine {b: 1}\n", 1, "which means nothing here"),
        ("? [a, b]\n: 1\n", 1, "has a key that is no text"),
        ("a: &x [*x]\n", 1, "contains itself"),
        ("<<: 3\n", 1, "merges something that is no mapping"),
        ("a: 2024-13-45\n", 1, "cannot be read"),
    ],
)
def test_what_yaml_allows_and_definitions_do_not_is_found_with_its_line(text, line, words):
    _, faults = data(text)
    assert any(place_ == line and words in message for place_, message in faults), faults


def test_aliases_that_multiply_are_not_written_out():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    _, faults = data("\n".join(lines))
    assert "too large" in faults[0][1]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [1\nb: 2\n", 2, "quotes, brackets"),
        ("a:\n\t- b\n", 2, "replace the tabs"),
        ("a: b: c\n", 1, "must be in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "Write one definition a file"),
        ("a: *missing\n", 1, "Write &name where the value first stands"),
        ("a: \x01\n", 1, "cannot be read as YAML"),
    ],
)
def test_a_text_that_is_no_yaml_is_refused_with_its_line(text, line, words):
    with pytest.raises(DefinitionError) as caught:
        compose(text, "f.yaml")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("f.yaml", line)
    assert words in str(problem)


TEXT = """\
name: p
base: &base
  timeout: soon
steps:
  a:
    kind: command
    arguments: [x, "y"]
    <<: *base
more:
  - name: b
    kind: x
  - - {name: c, kind: y}
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("name",), (1, 7)),
        (("steps",), (4, 1)),
        (("steps", "a"), (5, 3)),
        (("steps", "a", "kind"), (6, 11)),
        (("steps", "a", "arguments", 1), (7, 20)),
        (("steps", "a", "timeout"), (3, 12)),
        (("steps", "a", "missing"), (5, 3)),
        (("steps", "a.inner", "kind"), (6, 11)),
        (("more", "b", "kind"), (11, 11)),
        (("more", "c", "kind"), (12, 23)),
        (("more", 1, 0, "kind"), (12, 23)),
        (("nowhere", "x"), (1, 1)),
        ((), (1, 1)),
    ],
)
def test_a_path_is_found_where_it_stands_or_where_it_would_be(path, expected):
    assert place(compose(TEXT, "f.yaml"), path) == expected


def test_a_wrong_key_is_found_at_the_key():
    root = compose(TEXT, "f.yaml")
    assert place(root, ("steps", "a", "kind"), at_key=True) == (6, 5)
    assert place(root, ("name",), at_key=True) == (1, 1)
    assert place(None, ("name",)) == (1, 1)
