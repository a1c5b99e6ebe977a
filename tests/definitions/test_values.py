from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from airflow_mlpipe.definitions.values import (
    Argument,
    Count,
    DottedName,
    InsidePath,
    Moment,
    PortName,
    StepName,
    climbs,
    duration,
    duration_text,
)
from airflow_mlpipe.definitions.yaml_nodes import WrittenFloat
from tests.definitions.helpers import refused


def valid(kind, value):
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("2 hours", 7200),
        ("1 hour", 3600),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("90 min", 5400),
        ("1.5 days", 129600),
        ("1 day, 2 hours", 93600),
        ("2 weeks", 1209600),
        ("PT2H", 7200),
        ("P1DT1M", 86460),
        ("P1W", 604800),
        ("PT0.5S", 0.5),
        ("02:00:00", 7200),
        (timedelta(minutes=3), 180),
    ],
)
def test_a_duration_is_read_from_everything_people_write(given_, seconds):
    assert duration(given_) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "given_",
    [
        "",
        "2",
        "soon",
        "2 moons",
        "P",
        "PT",
        "1:99:00",
        "2 hours soon",
        -1,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        "9999999999 weeks",
    ],
)
def test_what_is_no_duration_is_refused_with_examples(given_):
    with refused("is not a duration", '"2 hours"'):
        duration(given_)


@given(st.timedeltas(min_value=timedelta(0)))
def test_a_duration_is_read_back_from_its_text(value):
    assert duration(duration_text(value)) == value


@pytest.mark.parametrize("given_", [date(2024, 1, 2), datetime(2024, 1, 2), "2024-01-02T00:00:00", "2024-01-02"])  # noqa: DTZ001
def test_a_moment_without_a_zone_is_utc(given_):
    assert valid(Moment, given_) == datetime(2024, 1, 2, tzinfo=timezone.utc)


@pytest.mark.parametrize("given_", [2024, True, "yesterday", []])
def test_what_is_no_moment_is_refused(given_):
    with pytest.raises(ValidationError):
        valid(Moment, given_)


@pytest.mark.parametrize("path", ["a.py", "a/b.py", "a/../b.py", "./a.py", "a b.py", "ä.py"])
def test_a_path_inside_its_folder_is_taken(path):
    assert valid(InsidePath, path) == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("/a.py", "absolute"),
        ("../a.py", "lead out"),
        ("a/../../b.py", "lead out"),
        ("C:\\a.py", "absolute"),
    ],
)
def test_a_path_leading_out_is_refused(path, words):
    with refused(words):
        valid(InsidePath, path)


@given(st.lists(st.sampled_from(["a", "..", ".", ""]), max_size=6))
def test_a_path_climbs_exactly_when_it_is_once_above_where_it_began(parts):
    depths = accumulate({"a": 1, "..": -1}.get(part, 0) for part in parts)
    assert climbs("/".join(parts)) == any(depth < 0 for depth in depths)


@pytest.mark.parametrize("name", ["a", "a.b-c_1", "1", "_x", "a" * 200])
def test_names_of_steps_are_words_with_dots_and_dashes(name):
    assert valid(StepName, name) == name


@pytest.mark.parametrize("name", ["", "a b", "ä", "-a", ".a", "../x", "a/b", "a" * 300, "a\n"])
def test_names_that_could_go_wrong_somewhere_are_refused(name):
    with pytest.raises(ValidationError):
        valid(StepName, name)
    with pytest.raises(ValidationError):
        valid(PortName, name)


@pytest.mark.parametrize("name", ["callbacks.notify", "a.b.c"])
def test_a_callback_is_the_dotted_name_of_a_function(name):
    assert valid(DottedName, name) == name


@pytest.mark.parametrize("name", ["notify", "a..b", "a.b()", "a b.c", ".a", ""])
def test_a_callback_in_another_form_is_refused(name):
    with refused("module.function"):
        valid(DottedName, name)


def test_a_number_among_arguments_is_taken_as_it_is_written():
    written = WrittenFloat(1.1)
    written.text = "1.10"
    assert [valid(Argument, given_) for given_ in (1, 0.5, written, "x")] == ["1", "0.5", "1.10", "x"]


@pytest.mark.parametrize("given_", [True, None, [], -1, 1.5, "1"])
def test_a_count_is_a_whole_number_from_zero(given_):
    with pytest.raises(ValidationError):
        valid(Count, given_)
