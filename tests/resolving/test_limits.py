from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.resolving.limits import read_duration, read_size


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("500GB", 500 * 10**9), ("1.5 kB", 1500), ("20m", 20 * 10**6), ("3 tb", 3 * 10**12), ("7b", 7)],
)
def test_sizes_are_read_as_people_write_them(text, count):
    assert read_size("--max-size", text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 PB", "1 GB or so", "b"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MlpipeError, match="--max-size must be a size such as"):
        read_size("--max-size", text)


@pytest.mark.parametrize(
    ("text", "time"),
    [("0", timedelta(0)), ("90", timedelta(seconds=90)), ("30d", timedelta(days=30)), ("1h 30m", timedelta(hours=1.5))],
)
def test_times_are_read_as_people_write_them(text, time):
    assert read_duration("--grace", text) == time


@pytest.mark.parametrize("text", ["", "-1d", "soon", "9" * 40])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(MlpipeError, match="--grace must be a duration such as"):
        read_duration("--grace", text)
