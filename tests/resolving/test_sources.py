from __future__ import annotations

import os
import socket
import time

import pytest

from airflow_mlpipe.exceptions import SourceError
from airflow_mlpipe.resolving import sources
from airflow_mlpipe.resolving.sources import scan
from airflow_mlpipe.store import digests
from airflow_mlpipe.store.digests import StatIndex


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    fill(folder, "train.py", "helpers/__init__.py", "helpers/text.py")
    return folder


def fill(folder, *paths, content="x = 1\n"):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def names(folder):
    return sorted(scan(folder).files)


def test_all_files_below_the_directory_are_code(source):
    fill(source, "query.sql", ".hidden/config.yaml", "empty.txt", content="")
    assert names(source) == [
        ".hidden/config.yaml",
        "empty.txt",
        "helpers/__init__.py",
        "helpers/text.py",
        "query.sql",
        "train.py",
    ]


def test_rule_2_content_name_and_owner_exec_bit_are_code(source):
    seen = [scan(source).digest]
    (source / "train.py").write_text("x = 2\n")
    seen.append(scan(source).digest)
    (source / "train.py").chmod(0o744)
    seen.append(scan(source).digest)
    (source / "train.py").rename(source / "fit.py")
    seen.append(scan(source).digest)
    assert len(set(seen)) == 4


def test_rule_2_times_other_modes_and_the_place_of_the_directory_are_not_code(source):
    before = scan(source).digest
    (source / "train.py").chmod(0o666)
    os.utime(source / "train.py", (0, 0))
    (source / "empty").mkdir()
    source.rename(source.with_name("moved"))
    assert scan(source.with_name("moved")).digest == before


@pytest.mark.parametrize(
    "path",
    [
        ".DS_Store",
        ".amlignore",
        ".git/config",
        ".gitignore",
        ".ipynb_checkpoints/a-checkpoint.ipynb",
        ".mypy_cache/a",
        ".pytest_cache/a",
        ".ruff_cache/a",
        ".train.py.swp",
        ".venv/bin/python",
        "__pycache__/a.cpython-311.pyc",
        "a.pyc",
        "helpers/__pycache__/b.py",
        "mlpipe.lock",
        "train.py~",
    ],
)
def test_what_tools_leave_is_never_code(source, path):
    before = scan(source).digest
    fill(source, path, content="")
    assert scan(source).digest == before


def test_what_is_left_out_is_no_code_wherever_it_lies_and_however_it_is_reached(source):
    fill(source, "p.yaml", "results/x.csv", "deep/results/x.csv", "deep/p.yaml")
    (source / "link.yaml").symlink_to("p.yaml")
    (source / "again").symlink_to("results")
    without = [source / "p.yaml", source / "deep" / ".." / "results", source / "nowhere", source.parent]
    assert sorted(scan(source, without=without).files) == [
        "deep/p.yaml",
        "deep/results/x.csv",
        "helpers/__init__.py",
        "helpers/text.py",
        "train.py",
    ]


def test_a_link_that_leaves_to_what_is_left_out_is_no_code(source):
    fill(source.parent, "p.yaml")
    (source / "p.yaml").symlink_to("../p.yaml")
    assert "p.yaml" not in scan(source, without=[source / "p.yaml"]).files


@pytest.mark.parametrize(
    "paths",
    [
        ["st/log/ab/1.json", "st/runs/p/plan.json", "st/latest/p/a.json", "st/journal/p/1.json"],
        ["deep/mine/airflow.cfg", "deep/mine/mlpipe.json", "deep/mine/logs/x.log"],
        ["home/airflow/mlpipe.json", "home/airflow/airflow.cfg", "home/logs/p/run.log"],
    ],
)
def test_stores_and_private_folders_are_never_code_whatever_they_are_called(source, paths):
    before = scan(source).digest
    fill(source, *paths)
    assert scan(source).digest == before


@pytest.mark.parametrize("path", ["logs/x", "runs/x", "airflow/dag.py", "airflow.cfg", "deep/mlpipe.json"])
def test_a_folder_with_names_like_ours_is_code(source, path):
    fill(source, path)
    assert path in scan(source).files


def test_an_ignore_file_cannot_take_back_what_is_never_code(source):
    fill(source, ".gitignore", content="!__pycache__\n!*.pyc\n")
    fill(source, "__pycache__/a.pyc")
    assert "__pycache__/a.pyc" not in names(source)


def test_gitignore_rules_are_followed(source):
    fill(source, ".gitignore", content="# big\n*.csv\n!small.csv\n/data/\nhelpers/t*.py\n")
    fill(source, "big.csv", "small.csv", "data/a.txt", "helpers/data/a.txt")
    assert names(source) == ["helpers/__init__.py", "helpers/data/a.txt", "small.csv", "train.py"]


def test_amlignore_is_taken_in_place_of_gitignore(source):
    fill(source, ".gitignore", content="train.py\n")
    fill(source, ".amlignore", content="helpers/\n")
    assert names(source) == ["train.py"]


def test_only_the_ignore_file_in_the_root_counts(source):
    fill(source, "helpers/.gitignore", content="*\n")
    assert "helpers/text.py" in names(source)


def test_an_ignored_folder_is_not_looked_into(source):
    fill(source, ".gitignore", content="data\n")
    (source / "data").mkdir()
    os.mkfifo(source / "data" / "pipe")
    assert names(source) == ["helpers/__init__.py", "helpers/text.py", "train.py"]


@pytest.mark.parametrize("content", [b"!\n", b"\xff\xfe*"])
def test_an_ignore_file_that_cannot_be_used_is_refused_by_name(source, content):
    (source / ".gitignore").write_bytes(content)
    with pytest.raises(SourceError, match=r"ignore file '.*\.gitignore' cannot be used"):
        scan(source)


def test_a_link_inside_is_followed(source):
    (source / "alias.py").symlink_to("train.py")
    (source / "more").symlink_to("helpers")
    snapshot = scan(source)
    assert snapshot.files["alias.py"] == snapshot.files["train.py"]
    assert snapshot.files["more/text.py"] == snapshot.files["helpers/text.py"]
    before = snapshot.digest
    (source / "alias.py").unlink()
    (source / "alias.py").write_bytes((source / "train.py").read_bytes())
    assert scan(source).digest == before


def test_a_directory_that_is_a_link_is_the_one_it_leads_to(source):
    link = source.with_name("link")
    link.symlink_to(source)
    assert scan(link).digest == scan(source).digest


@pytest.mark.parametrize("target", ["../../outside.py", "/etc/hostname", "../.."])
def test_a_link_that_leaves_is_refused_by_name(source, target):
    fill(source.parent, "outside.py")
    (source / "helpers" / "out").symlink_to(target)
    with pytest.raises(SourceError, match=r"helpers/out in the source directory .* is a link that leaves"):
        scan(source)


def test_a_link_to_a_folder_whose_name_begins_alike_leaves(source):
    fill(source.parent, "source-old/a.py")
    (source / "old").symlink_to(source.parent / "source-old")
    with pytest.raises(SourceError, match="leaves the directory"):
        scan(source)


def test_links_in_a_circle_are_refused(source):
    (source / "helpers" / "up").symlink_to(source)
    with pytest.raises(SourceError, match=r"helpers/up .* a folder that contains it"):
        scan(source)


@pytest.mark.parametrize("target", ["nowhere.py", "itself"])
def test_a_link_that_leads_nowhere_is_refused(source, target):
    (source / "itself").symlink_to(target)
    with pytest.raises(SourceError, match=r"itself .* leads nowhere"):
        scan(source)


def test_a_refused_file_may_be_ignored(source):
    (source / "itself").symlink_to("itself")
    (source / "out").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    fill(source, ".amlignore", content="itself\nout/\npipe\n")
    assert names(source) == ["helpers/__init__.py", "helpers/text.py", "train.py"]


def test_a_pipe_is_refused_by_name(source):
    os.mkfifo(source / "pipe")
    with pytest.raises(SourceError, match=r"pipe in the source directory .* is a named pipe: remove it"):
        scan(source)


def test_a_socket_is_refused_by_name(source, monkeypatch):
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("door")
        with pytest.raises(SourceError, match=r"door .* is a socket"):
            scan(source)


def test_a_link_to_a_device_is_refused(source):
    (source / "null").symlink_to("/dev/null")
    with pytest.raises(SourceError, match=r"null .* leaves the directory"):
        scan(source)


def test_a_name_that_is_not_utf_8_is_refused(source):
    (source / os.fsdecode(b"caf\xe9.py")).touch()
    with pytest.raises(SourceError, match=r"caf\\udce9\.py.* not UTF-8"):
        scan(source)


def test_a_file_that_cannot_be_read_is_refused(source, monkeypatch):
    def refuse(paths, _index):
        raise PermissionError(13, "Permission denied", str(paths[-1]))

    monkeypatch.setattr(sources, "digest_files", refuse)  # root, who runs tests in containers, reads everything
    with pytest.raises(SourceError, match=r"cannot be read: .*Permission denied.*train\.py"):
        scan(source)


def test_a_directory_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SourceError, match="gone' does not exist: correct source_directory"):
        scan(tmp_path / "gone")


def test_a_file_in_place_of_the_directory_is_refused(source):
    with pytest.raises(SourceError, match="is not a directory"):
        scan(source / "train.py")


def test_too_many_files_are_refused_with_a_way_out(source, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    with pytest.raises(SourceError, match=r"more than 2 files .* declare data as inputs, .* in \.amlignore"):
        scan(source)


def test_too_many_bytes_are_refused(source, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    with pytest.raises(SourceError, match="declare data as inputs"):
        scan(source)


def test_a_second_scan_of_unchanged_files_reads_nothing(source, monkeypatch):
    def refuse(path, *_):
        raise AssertionError(path)

    later = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)  # the index distrusts files that are younger than 2 s
    first = scan(source, StatIndex.open())
    monkeypatch.setattr(digests, "_digest_file", refuse)
    assert scan(source, StatIndex.open()) == first
    fill(source, "train.py", content="y = 2\n")
    with pytest.raises(AssertionError, match=r"train\.py"):
        scan(source, StatIndex.open())
