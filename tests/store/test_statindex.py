from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import threading

import pytest

from airflow_mlpipe.store import statindex
from airflow_mlpipe.store.statindex import Settling, StatIndex, filesystem_of, stamp_of

EXT4, TMPFS, OVERLAY = 0xEF53, 0x01021994, 0x794C7630


@pytest.fixture
def index(tmp_path):
    return StatIndex.open(tmp_path / "index.sqlite")


def test_a_digest_is_found_by_path_and_stamp(index):
    index.put([("/a", b"1", "sha256:a"), ("/b", b"1", "sha256:b")])
    index.put([("/a", b"2", "sha256:A")])
    assert index.get({"/a": b"2", "/b": b"2", "/c": b"1"}) == {"/a": "sha256:A"}


def test_thousands_are_found_at_once(index):
    stamps = {f"/folder/{number}": b"%d" % number for number in range(5000)}
    index.put((path, stamp, path) for path, stamp in stamps.items())
    assert index.get(stamps) == {path: path for path in stamps}


def test_a_stamp_tells_every_way_to_change(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    stamps = {stamp_of(path.stat())}
    os.utime(path, ns=(1, 1))
    stamps.add(stamp_of(path.stat()))
    path.write_bytes(b"22")
    stamps.add(stamp_of(path.stat()))
    (tmp_path / "b").write_bytes(b"33")
    os.utime(tmp_path / "b", ns=(1, 1))
    (tmp_path / "b").replace(path)
    stamps.add(stamp_of(path.stat()))
    assert len(stamps) == 4


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """Return a function that asks for an age of a file in nanoseconds and a filesystem whether it is settled."""
    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.utime(path, ns=(1, 1))

    def ask(age, filesystem=EXT4):
        status = path.stat()
        monkeypatch.setattr(statindex.time, "time_ns", lambda: status.st_ctime_ns + age)
        monkeypatch.setattr(statindex, "filesystem_of", lambda _: filesystem)
        with path.open("rb") as file:
            return Settling().settle(file.fileno(), status)

    return ask


def test_rule_5_a_file_is_settled_two_seconds_after_both_of_its_times(settled, tmp_path):
    assert not settled(1_999_999_999)
    assert settled(2_000_000_000)
    future = (tmp_path / "a").stat().st_ctime_ns + 10**12
    os.utime(tmp_path / "a", ns=(future, future))
    assert not settled(10**11)


def test_rule_5_a_file_whose_pages_cannot_be_handed_to_the_disk_at_once_is_settled_when_they_have_been(
    settled, monkeypatch
):
    assert not settled(59_999_999_999, OVERLAY)
    assert settled(60_000_000_000, OVERLAY)
    monkeypatch.setattr(statindex, "_start_writing", lambda _: False)
    assert not settled(59_999_999_999)
    assert settled(60_000_000_000)


def test_rule_5_a_file_in_memory_is_never_settled(settled):
    assert not settled(10**15, TMPFS)


def test_the_type_of_a_filesystem_is_what_linux_says(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        told = subprocess.run(["stat", "-f", "-c", "%t", file.name], capture_output=True, check=True).stdout
        assert filesystem_of(file.fileno()) == int(told, 16)
    assert filesystem_of(-1) == 0


@pytest.mark.parametrize("content", [b"no database at all, not even one of old", b"SQLite format 3\0" + b"\xff" * 500])
def test_a_broken_index_only_costs_time(tmp_path, content):
    path = tmp_path / "index.sqlite"
    path.write_bytes(content)
    index = StatIndex.open(path)
    index.put([("/a", b"1", "sha256:a")])
    assert index.get({"/a": b"1"}) == {}


def test_an_index_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "file").write_text("")
    index = StatIndex.open(tmp_path / "file" / "index.sqlite")
    index.put([("/a", b"1", "sha256:a")])
    assert index.get({"/a": b"1"}) == {}


def test_the_index_lies_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MLPIPE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert StatIndex.open()._path == tmp_path / ".cache/mlpipe/stat-index.sqlite"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(StatIndex.open()._path) == "/xdg/mlpipe/stat-index.sqlite"
    monkeypatch.setenv("MLPIPE_CACHE", "/chosen")
    assert str(StatIndex.open()._path) == "/chosen/stat-index.sqlite"


def test_threads_and_forks_share_an_index(index):
    def write(number):
        for turn in range(20):
            index.put([(f"/{number}/{turn}", b"1", "sha256:a")])

    write("parent")
    threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(3)]
    children = [multiprocessing.get_context("fork").Process(target=write, args=(f"p{number}",)) for number in range(3)]
    for worker in (*children, *threads):
        worker.start()
    for worker in (*children, *threads):
        worker.join()
    names = ["parent", "t0", "t1", "t2", "p0", "p1", "p2"]
    assert len(index.get({f"/{name}/{turn}": b"1" for name in names for turn in range(20)})) == 140


def test_what_nobody_used_for_long_is_forgotten(index, tmp_path, monkeypatch):
    index.put([("/old", b"1", "sha256:a")])
    day = statindex.time.time() + (statindex.KEPT_DAYS + 1) * 86400
    monkeypatch.setattr(statindex.time, "time", lambda: day)
    index.put([("/new", b"1", "sha256:a")])
    with contextlib.closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection:
        assert connection.execute("SELECT path FROM files").fetchall() == [(b"/new",)]
