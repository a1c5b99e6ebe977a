from __future__ import annotations

import pytest

from airflow_mlpipe.launchers.kubernetes.printed import Printed
from airflow_mlpipe.runtime.output import LINE_CHARACTERS, TAIL_BYTES, TAIL_LINES

SECRET = "correct-horse-battery-staple"


@pytest.mark.parametrize("before", [LINE_CHARACTERS - 9, TAIL_BYTES])
def test_a_secret_where_a_long_line_is_cut_is_hidden_whole(before):
    output = Printed((SECRET,), [].append)
    lines = output.last_lines(b"x" * before + SECRET.encode() + b"y" * (TAIL_BYTES - 9) + b"\n")
    assert all(part not in "".join(lines) for part in ("correct", "staple"))


def test_the_last_lines_are_those_of_the_end():
    printed = b"".join(b"%d\n" % number for number in range(100))
    lines = Printed((), [].append).last_lines(printed)
    assert lines == tuple(str(number) for number in range(100 - TAIL_LINES, 100))
    assert Printed((), [].append).last_lines(b"") == ()
