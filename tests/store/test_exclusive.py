from __future__ import annotations

import multiprocessing
import os

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import StoreNotExclusiveError
from airflow_mlpipe.store.exclusive import create_exclusive, probe


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path):
    path = tmp_path / "log" / "000001.json"

    def die(*_):
        os._exit(9)

    def write_and_die():
        os.link = die
        create_exclusive(LocalFileSystem(), str(path), b"half")

    child = multiprocessing.get_context("fork").Process(target=write_and_die)
    child.start()
    child.join()
    assert child.exitcode == 9
    assert [entry.name[0] for entry in path.parent.iterdir()] == ["."]
    assert create_exclusive(LocalFileSystem(), str(path), b"whole")
    assert path.read_bytes() == b"whole"


def test_a_filesystem_without_links_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreNotExclusiveError, match="it cannot link files"):
        create_exclusive(LocalFileSystem(), str(tmp_path / "a"), b"")
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    link = os.link

    def lose_the_answer(source, target):
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", lose_the_answer)
    assert create_exclusive(LocalFileSystem(), str(tmp_path / "a"), b"mine")


@pytest.mark.parametrize("fs", [LocalFileSystem(), MemoryFileSystem()])
def test_the_probe_passes_what_is_exclusive(fs, tmp_path):
    root = f"{tmp_path}/store"
    probe(fs, root)
    assert not fs.exists(root) or fs.ls(root) == []


class Forgetful(DirFileSystem):
    """Ignores the mode, as filesystems do that know no conditional put."""

    def pipe_file(self, path, value, **kwargs):
        kwargs.pop("mode", None)
        return super().pipe_file(path, value, **kwargs)


class PreconditionFailed(Exception):  # noqa: N818 -- what a client of a service would call it
    pass


class Conditional(DirFileSystem):
    """Has a conditional put, with an error of its own kind."""

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        full = self._join(path)
        if mode == "create" and not create_exclusive(self.fs, full, value):
            raise PreconditionFailed
        if mode != "create":
            super().pipe_file(path, value, **kwargs)


def test_the_probe_refuses_a_put_without_condition(tmp_path):
    with pytest.raises(StoreNotExclusiveError, match="writers created the same file"):
        probe(Forgetful(str(tmp_path), LocalFileSystem()), "store")


def test_a_conditional_put_is_trusted(tmp_path):
    fs = Conditional(str(tmp_path), LocalFileSystem())
    probe(fs, "store")
    assert create_exclusive(fs, "store/a", b"one")
    assert not create_exclusive(fs, "store/a", b"two")
    assert fs.cat_file("store/a") == b"one"


def test_a_put_that_failed_is_an_error_and_not_a_lost_race(tmp_path):
    class Broken(DirFileSystem):
        def pipe_file(self, *_, **__):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        create_exclusive(Broken(str(tmp_path), LocalFileSystem()), "a", b"")
