from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.naming import (
    check_port_name,
    check_step_name,
    from_path_segment,
    label_value,
    object_name,
    path_segment,
)

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


DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")


@given(TEXT, st.lists(TEXT, max_size=3), st.integers(0, 20))
def test_the_name_of_an_object_is_a_dns_label_with_room_for_an_ending(shown, identity, room):
    name = object_name(shown, *identity, room=room)
    assert DNS_LABEL.match(name)
    assert len(name) <= 63 - room


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_different_objects_have_different_names(first, second):
    assert (object_name(*first) == object_name(*second)) == (first == second)


def test_names_of_objects_are_pinned():
    assert object_name("Train_Model", "run 1") == object_name("Train_Model", "run 1")
    assert object_name("Train_Model", "run 1") == "mlpipe-train-model-755198b029c7967c"
    assert object_name("", "x").startswith("mlpipe-step-")


@given(TEXT)
def test_a_label_is_valid(text):
    assert LABEL.match(label_value(text))


@given(TEXT, TEXT)
def test_different_texts_have_different_labels(first, second):
    assert (label_value(first) == label_value(second)) == (first == second)


@pytest.mark.parametrize("text", ["", "train", "Train-2.1_x", "a" * 63])
def test_what_fits_is_its_own_label(text):
    assert label_value(text) == text
