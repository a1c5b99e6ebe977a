from __future__ import annotations

import pytest

from airflow_mlpipe.definitions.faults import Fault, did_you_mean, nearest, refuse, shown, where


def test_a_path_reads_as_people_write_it():
    assert where(("steps", "train", "arguments", 2)) == "steps.train.arguments[2]"
    assert where((0, "name")) == "[0].name"


def test_a_fault_seen_from_outside_is_about_something_seen_from_outside():
    fault = Fault(("inputs", "x"), "wrong", about=("inputs", "y")).below("steps", "a")
    assert (fault.path, fault.about) == (("steps", "a", "inputs", "x"), ("steps", "a", "inputs", "y"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("script_nam", "script_name"),
        ("scriptname", "script_name"),
        ("Script-Name", "script_name"),
        ("zebra", None),
        (True, None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_dashes(given, expected):
    assert nearest(given, ["script_name", "source_directory"]) == expected


def test_where_nothing_is_near_all_known_names_are_listed():
    assert did_you_mean("zebra", ["raw", "clean"], "inputs.") == "Known: inputs.raw, inputs.clean"
    assert did_you_mean("raww", ["raw", "clean"], "inputs.") == "Did you mean inputs.raw?"
    assert did_you_mean("raw", []) == "None is defined here"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b", "a b"),
        ("", "''"),
        (" a", "' a'"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("x" * 100, "x" * 77 + "..."),
    ],
)
def test_a_value_is_shown_as_it_was_written_and_short(value, expected):
    assert shown(value) == expected


def test_a_refusal_says_everything_in_one_line():
    assert str(refuse("is wrong", "Do this", "that", ("a",))) == "a: is wrong (given: that). Do this"
