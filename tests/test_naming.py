from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.naming import check_port_name, check_step_name, from_path_segment, path_segment

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
PORTABLE = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_.=~-]*\Z")


@given(TEXT)
def test_a_segment_is_portable(text):
    segment = path_segment(text)
    assert PORTABLE.match(segment)
    assert segment not in {"", ".", ".."}
    assert len(segment) <= 180


@given(TEXT)
def test_a_segment_leads_back_to_its_text_or_says_that_it_was_cut(text):
    segment = path_segment(text)
    if "=~" in segment:
        with pytest.raises(ValueError, match="too long"):
            from_path_segment(segment)
    else:
        assert from_path_segment(segment) == text


@given(TEXT, TEXT)
def test_different_texts_have_different_segments(first, second):
    assert (path_segment(first) == path_segment(second)) == (first == second)


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        ("scheduled__2026-01-01T00:00:00+00:00", "scheduled__2026-01-01T00=3A00=3A00=2B00=3A00"),
        ("", "="),
        (".", "=2E"),
        ("..", "=2E."),
        (".hidden", "=2Ehidden"),
        ("a/b", "a=2Fb"),
        ("a=b", "a=3Db"),
        ("a~b", "a=7Eb"),
        ("100 %", "100=20=25"),
        ("é", "=C3=A9"),
        ("Train", "Train"),
    ],
)
def test_segments_are_pinned(text, segment):
    assert path_segment(text) == segment
    assert from_path_segment(segment) == text


def test_long_texts_that_begin_alike_differ():
    first, second = path_segment("a" * 300 + "b"), path_segment("a" * 300 + "c")
    assert first != second
    assert first.startswith("a" * 100)
    assert path_segment("a" * 300 + "b") == first


@pytest.mark.parametrize("name", ["train", "Train-2.1", "_x", "1", "a" * 200])
def test_a_step_may_be_called(name):
    assert check_step_name(name) is None


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "é", "a/b", "a\n", "../x", "a" * 201])
def test_a_step_may_not_be_called(name):
    assert check_step_name(name)


@pytest.mark.parametrize("name", ["data", "_x", "Data2", "a" * 100])
def test_an_input_may_be_called(name):
    assert check_port_name(name) is None


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a.b", "a b", "é", "../x", "a\n", "a" * 101])
def test_an_input_may_not_be_called(name):
    assert check_port_name(name)
