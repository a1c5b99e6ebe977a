from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving.user_cache import alone, cache_folder


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("MLPIPE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/u/.cache/mlpipe")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/mlpipe")
    monkeypatch.setenv("MLPIPE_CACHE", "~/own")
    assert cache_folder() == Path("/home/u/own")


def test_one_at_a_time(tmp_path):
    order = []

    def second():
        with alone(tmp_path / "lock"):
            order.append("second")

    with alone(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_child_that_outlives_its_parent_goes_on_holding(tmp_path):
    with alone(tmp_path / "lock") as held:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[held])
    taken = threading.Event()

    def take():
        with alone(tmp_path / "lock"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.3)
    child.communicate(b"\n")
    thread.join(10)
    assert taken.is_set()


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentBuildError, match="set MLPIPE_CACHE"), alone(tmp_path / "file" / "lock"):
        pass
