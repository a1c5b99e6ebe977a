from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Pipeline, StepSequence
from airflow_mlpipe.definitions.sequence import listed
from tests.definitions.helpers import refused, step

A, B, C, D = (step(name) for name in "abcd")


def after(steps):
    return {item.name: item.after for item in listed(steps)}


def test_a_list_has_no_order():
    assert after([A, B, [C, D]]) == {"a": (), "b": (), "c": (), "d": ()}


def test_in_a_sequence_each_element_runs_after_all_of_the_one_before():
    assert after(StepSequence([A, [B, C], D])) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_a_sequence_within_a_sequence_counts_as_one_element():
    assert after(StepSequence([A, StepSequence([B, C]), D])) == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}


def test_a_sequence_side_by_side_with_a_step():
    assert after(StepSequence([[A, StepSequence([B, C])], D])) == {"a": (), "b": (), "c": ("b",), "d": ("a", "c")}


def test_an_empty_group_does_not_break_the_order():
    assert after(StepSequence([A, [], B])) == {"a": (), "b": ("a",)}


def test_one_step_is_a_list_of_it():
    assert after(A) == {"a": ()}


def test_a_sequence_equals_run_after():
    written = [A, step("b", run_after=["a"]), step("c", run_after=["a"]), step("d", run_after=["b", "c"])]
    assert Pipeline(name="p", steps=StepSequence([A, [B, C], D])) == Pipeline(name="p", steps=written)


def test_a_mapping_names_its_steps():
    assert after({"a": {"kind": "command"}, "b": B}) == {"a": (), "b": ()}
    assert listed({"a": {"kind": "command"}})[0].given == {"kind": "command", "name": "a"}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (None, "must be a mapping of names to steps"),
        ("a", "must be a mapping of names to steps"),
        ([{"kind": "command"}], "[0]: is a step without a name"),
        (StepSequence([A, [{"kind": "command"}]]), "[1][0]: is a step without a name"),
        ([3], "is a step without a name"),
        ({"a": {"name": "b"}}, "a.name: differs from the key"),
        ({"a": B}, "a.name: differs from the key"),
    ],
)
def test_steps_without_a_name_of_their_own_are_refused(steps, words):
    with refused(words):
        listed(steps)
