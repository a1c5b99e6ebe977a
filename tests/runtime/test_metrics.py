from __future__ import annotations

import os

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.runtime.metrics import read_metrics


def test_the_last_value_of_a_name_counts(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"name": "a", "value": 1}\n\n{"name": "b", "value": 2.5, "step": 3}\n{"name": "a", "value": -4}')
    assert read_metrics(path) == {"a": -4.0, "b": 2.5}


def test_no_file_means_no_metrics(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == {}


@pytest.mark.parametrize(
    "line",
    [
        "auc 0.9",
        "[1]",
        '{"name": "a"}',
        '{"value": 1}',
        '{"name": "", "value": 1}',
        '{"name": 1, "value": 1}',
        '{"name": "a", "value": "1"}',
        '{"name": "a", "value": true}',
        '{"name": "a", "value": NaN}',
        '{"name": "a", "value": -Infinity}',
        '{"name": "a", "value": 1e999}',
        '{"name": "a", "value": 1, "step": 1.5}',
        '{"name": "a", "value": 1, "epoch": 1}',
        '{"name": "a", "value": 1' + "0" * 400 + "}",
        "\udcff",
    ],
)
def test_a_line_that_is_no_metric_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"name": "good", "value": 1}\n' + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(StepError, match=r"metrics\.jsonl, line 2: .* expected"):
        read_metrics(path)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_file_of_its_own_is_neither_followed_nor_waited_for(tmp_path, kind):
    path = tmp_path / "metrics.jsonl"
    if kind == "link":
        (tmp_path / "private").write_text('{"name": "auc", "value": 1}\n')
        path.symlink_to(tmp_path / "private")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(StepError, match=r"metrics\.jsonl is a link, a folder or a pipe"):
        read_metrics(path)
