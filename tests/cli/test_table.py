from __future__ import annotations

import io

import pytest

from airflow_mlpipe.cli.table import Column, duration, has_colour, render, size, width_of

STEP = Column("step", wraps=True)
OUTCOME = Column("outcome", coloured=True)
WHY = Column("why", wraps=True)
TIME = Column("time", right=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_aligned_and_numbers_to_the_right():
    assert render([STEP, OUTCOME, TIME], [["clean", "ran", "1.0 s"], ["train", "reused", "12.5 s"]]) == (
        "step   outcome    time\nclean  ran       1.0 s\ntrain  reused   12.5 s"
    )


def test_a_column_that_is_empty_throughout_is_left_out():
    assert render([STEP, WHY, TIME], [["clean", "", "1 s"]]) == "step   time\nclean   1 s"


def test_a_long_text_is_wrapped_within_the_width():
    lines = render([STEP, WHY, TIME], [["clean", "because " * 30, "1 s"]]).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) > 3
    assert all(line.startswith("      ") for line in lines[2:])


def test_a_short_column_keeps_its_width_beside_a_long_one():
    lines = render([STEP, WHY], [["evaluate_it", "because " * 30]]).splitlines()
    assert lines[1].startswith("evaluate_it  because")


def test_a_name_of_300_characters_is_wrapped_too():
    lines = render([STEP, OUTCOME, WHY], [["x" * 300, "ran", "because " * 30]]).splitlines()
    assert max(map(len, lines)) <= 80


def test_a_file_name_is_not_broken_at_its_hyphens():
    text = render([STEP, WHY], [["clean", "digits-2025-04.csv " * 20]])
    assert text.count("digits-2025-04.csv") == 20


def test_only_outcomes_are_coloured_and_only_where_asked():
    row = [["ran", "ran"]]
    assert "\x1b[" not in render([STEP, OUTCOME], row)
    assert render([STEP, OUTCOME], row, colour=True).count("\x1b[36m") == 1


def test_a_table_without_rows_is_its_heading():
    assert render([Column("step")], []) == ""


def test_what_is_piped_has_80_columns_and_no_colour(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert width_of(io.StringIO()) == 80
    assert not has_colour(io.StringIO())


def test_a_terminal_has_its_own_width_and_colour_unless_refused(monkeypatch):
    monkeypatch.setenv("COLUMNS", "123")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert width_of(Terminal()) == 123
    assert has_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colour(Terminal())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59.9, "59.9 s"),
        (125, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (3779, "1 h 2 min"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (123456, "123 kB"), (5_000_000_000, "5.0 GB"), (2e15, "2000.0 TB")],
)
def test_a_size_has_its_unit(count, text):
    assert size(count) == text
