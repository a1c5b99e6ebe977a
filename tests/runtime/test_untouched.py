from __future__ import annotations

import os

import pytest

from airflow_mlpipe.runtime.untouched import (
    changes,
    differences,
    is_shared,
    signature,
    signatures,
    signatures_at,
    without_change_times,
)


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    for name in ("a", "folder/b", "folder/sub/c"):
        (tmp_path / name).write_text("content")
    return tmp_path


def rewrite_keeping_times(path):
    before = path.stat()
    path.write_text("CONTENT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda _: None, []),
        (lambda path: (path / "a").read_text(), []),
        (lambda path: (path / "a").write_text("other"), ["a was changed"]),
        (lambda path: rewrite_keeping_times(path / "a"), ["a was changed"]),
        (lambda path: (path / "a").chmod(0o600), ["a was changed"]),
        (lambda path: (path / "a").unlink(), ["a was removed"]),
        (lambda path: (path / "folder" / "new").touch(), ["folder/new was added"]),
        (lambda path: (path / "folder" / "b").rename(path / "b"), ["b was added", "folder/b was removed"]),
    ],
)
def test_whatever_is_written_is_noticed_and_named(inputs, act, expected):
    before = signatures(inputs)
    act(inputs)
    assert changes(before, signatures(inputs)) == expected


def test_another_link_to_a_shared_file_is_no_change(inputs, tmp_path):
    os.link(inputs / "a", inputs / "folder" / "a2")
    before = signatures(inputs)
    outside = tmp_path.parent / f"{tmp_path.name}-link"
    os.link(inputs / "a", outside)
    outside.unlink()
    assert changes(before, signatures(inputs)) == []


def test_a_file_with_another_name_is_shared_and_a_folder_never_is(inputs):
    os.link(inputs / "a", inputs / "folder" / "a2")
    assert [name for name, found in sorted(signatures(inputs).items()) if is_shared(found)] == ["a", "folder/a2"]


def test_what_is_written_into_one_name_is_seen_under_the_other(inputs):
    os.link(inputs / "a", inputs / "other")
    before = signatures(inputs)["a"]
    assert changes({"a": before}, signature("a", inputs / "other")) == []
    (inputs / "a").write_text("other content")
    (inputs / "a").unlink()
    assert changes({"a": before}, signature("a", inputs / "other")) == ["a was changed"]
    (inputs / "other").unlink()
    assert changes({"a": before}, signature("a", inputs / "other")) == ["a was removed"]


def test_a_file_is_looked_at_where_it_lies_as_a_folder_is(inputs):
    before = {"": signatures_at(inputs / "a"), "folder": signatures_at(inputs / "folder")}
    assert before == {"": {"": signatures(inputs)["a"]}, "folder": signatures(inputs / "folder")}
    (inputs / "a").write_text("other")
    assert differences(before[""], signatures_at(inputs / "a")) == {"": "was changed"}
    (inputs / "a").unlink()
    assert differences(before[""], signatures_at(inputs / "a")) == {"": "was removed"}


def test_without_change_times_only_what_hides_itself_is_no_change(inputs):
    before = signatures(inputs)
    rewrite_keeping_times(inputs / "a")
    (inputs / "folder" / "b").write_text("other")
    assert list(differences(before, signatures(inputs))) == ["a", "folder/b"]
    assert list(differences(without_change_times(before), without_change_times(signatures(inputs)))) == ["folder/b"]
