from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from airflow_mlpipe.exceptions import StoreNotExclusiveError
from airflow_mlpipe.store.exclusive import client_of, create_exclusive, create_file, probe
from airflow_mlpipe.store.store import Store


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


def test_a_folder_that_somebody_removes_while_it_is_empty_is_made_again(tmp_path, monkeypatch):
    make, removed = os.makedirs, []

    def make_and_lose(folder, **options):
        make(folder, **options)
        if len(removed) < 3:
            Path(folder).rmdir()
            removed.append(folder)

    monkeypatch.setattr(os, "makedirs", make_and_lose)
    with create_file(str(tmp_path / "beat" / "one")) as file:
        file.write(b"1")
    assert len(removed) == 3
    assert (tmp_path / "beat" / "one").read_bytes() == b"1"


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
    with pytest.raises(StoreNotExclusiveError, match="9 of 9 writers created the same file through Forgetful"):
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


class ExistsThenWrites(MemoryFileSystem):
    """Looks whether a file exists, then writes it, as fsspec does by itself."""

    protocol = "hasty"

    def pipe_file(self, path, value, mode="overwrite", **_):
        if mode == "create" and self.exists(path):
            raise FileExistsError(path)
        time.sleep(0.001)
        self.store[self._strip_protocol(path)] = MemoryFile(self, path, value)


def test_the_probe_refuses_a_put_that_looks_first():
    with pytest.raises(StoreNotExclusiveError, match="writers created the same file"):
        probe(DirFileSystem("/x", ExistsThenWrites()), "store")


@pytest.mark.s3
def test_the_conditional_put_of_s3_is_trusted_and_asked_for_once(s3_store, network):
    assert s3_store.create("a", b"one")
    with network.counting() as seen:
        assert not Store.open(s3_store.url, network.options).create("a", b"two")
    assert seen == {"HEAD": 1, "PUT": 1, "GET": 1}
    assert s3_store.read("a") == b"one"


@pytest.mark.s3
def test_a_server_that_ignores_conditions_is_refused_by_name_with_the_remedy(s3_store, network):
    network.ignore_conditions()
    for _ in range(2):
        with pytest.raises(StoreNotExclusiveError) as caught:
            s3_store.create("a", b"one")
        message = str(caught.value)
        assert s3_store.root in message
        assert "9 of 9 writers created the same file through S3FileSystem" in message
        assert "choose an object store with conditional writes" in message
    assert s3_store.names("") == []
    network.heal()
    assert s3_store.create("a", b"one")


@pytest.mark.s3
def test_another_version_of_the_client_is_probed_again(s3_store, network, monkeypatch):
    s3_store.create("a", b"one")
    monkeypatch.setattr("s3fs.__version__", "2023.1.0")
    network.ignore_conditions()
    with pytest.raises(StoreNotExclusiveError, match=r"s3fs 2023\.1\.0"):
        Store.open(s3_store.url, network.options).create("b", b"one")


@pytest.mark.s3
def test_a_create_on_s3_whose_answer_was_lost_knows_that_it_won(s3_store, network):
    s3_store.create("a", b"probed")
    network.lose_answers(1)
    assert s3_store.create("b", b"mine")
    assert s3_store.read("b") == b"mine"


@pytest.mark.s3
@pytest.mark.parametrize("status", [409, 500, 503])
def test_a_create_on_s3_that_was_not_done_is_done_again(s3_store, network, status):
    s3_store.create("a", b"probed")
    network.fail_next(status)
    assert s3_store.create("b", b"mine")
    assert not s3_store.create("b", b"other")


def test_the_versions_of_a_client_are_in_its_name():
    import fsspec

    assert client_of(MemoryFileSystem()) == f"MemoryFileSystem fsspec {fsspec.__version__}"
