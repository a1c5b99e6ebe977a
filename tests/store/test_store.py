from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import RecordFormatError, StoreUnreachableError
from airflow_mlpipe.store import attempts
from airflow_mlpipe.store.store import Store


def test_what_is_written_is_read(store):
    store.write("a/b/c.txt", b"one")
    store.write("a/b/c.txt", b"two")
    assert store.read("a/b/c.txt") == b"two"
    with store.reader("a/b/c.txt") as reader:
        assert reader.read() == b"two"


def test_a_file_is_created_once(store):
    assert store.create("a/1", b"first")
    assert not store.create("a/1", b"second")
    assert store.read("a/1") == b"first"
    assert store.names("a") == ["1"]


def test_an_absent_file_is_an_answer_and_not_a_failure(store):
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.reader("nothing")
    assert store.sizes("nothing") == {}
    assert store.names("nothing") == []
    assert not store.exists("nothing")
    store.remove("nothing")


def test_listing_tells_the_bytes_of_every_file_below(store):
    store.write("a/one", b"1")
    store.write("a/b/.two", b"22")
    store.write("aa/three", b"333")
    assert store.sizes("a") == {"one": 1, "b/.two": 2}
    assert store.sizes("a/one") == {"": 1}
    assert store.names("a") == ["b", "one"]
    assert store.names("a/one") == []
    assert store.exists("a/one")
    assert not store.exists("a")


def test_several_folders_are_listed_at_once(store):
    store.write("a/one", b"1")
    store.write("a/b/two", b"22")
    store.write("c/three", b"333")
    listed = store.listings(["a", "c", "nothing"])
    assert {folder: {name: file.size for name, file in files.items()} for folder, files in listed.items()} == {
        "a": {"one": 1, "b/two": 2},
        "c": {"three": 3},
        "nothing": {},
    }
    assert store.listings([]) == {}


def test_a_file_that_is_written_anew_has_another_version_where_there_are_any(store):
    store.write("a/one", b"1")
    store.write("a/two", b"2")
    before = store.listings(["a"])["a"]
    store.write("a/one", b"3")
    after = store.listings(["a"])["a"]
    assert after["two"] == before["two"]
    assert after["one"] != before["one"] or not before["one"].version


def test_reading_several_leaves_out_those_that_are_not_there(store):
    store.write("a/one", b"1")
    store.write("a/two", b"2")
    assert store.read_all(["a/one", "a/three", "a/two"]) == {"a/one": b"1", "a/two": b"2"}
    assert store.read_all(["a/three"]) == {}
    assert store.read_all([]) == {}


def test_removing_takes_files_and_trees(store):
    store.write("a/b/one", b"1")
    store.write("a/two", b"2")
    store.remove("a/b")
    assert store.sizes("a") == {"two": 1}
    store.remove("a/two")
    assert store.sizes("a") == {}


@pytest.mark.parametrize("move", [True, False])
def test_a_local_file_is_uploaded_whole(store, tmp_path, move):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    store.upload(source, "a/b/file", move=move)
    assert store.read("a/b/file") == b"content"
    assert source.exists() or move


def test_a_uri_leads_back_to_its_path(store):
    assert store.path_of(store.uri("a/b c")) == "a/b c"
    assert store.path_of(store.uri("")) == ""
    assert store.path_of("s3://bucket/a") is None
    assert store.path_of("file:///elsewhere/a") is None
    assert store.path_of("memory://elsewhere/a") is None


def test_a_sibling_of_the_store_is_outside(tmp_path):
    store = Store.open(str(tmp_path / "store"))
    assert store.path_of((tmp_path / "store2" / "a").as_uri()) is None
    assert store.path_of(f"file://{tmp_path}/store/../secret") is None


def test_a_path_that_leaves_the_store_is_refused(store):
    with pytest.raises(ValueError, match="not a path in a store"):
        store.read("a/../../b")


def test_only_a_local_store_has_a_local_root(tmp_path, memory_store):
    assert Store.open(str(tmp_path)).local_root == tmp_path
    assert Store.open(tmp_path.as_uri()).local_root == tmp_path
    assert memory_store.local_root is None


def test_a_plain_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store.open("some/store").local_root == Path.cwd() / "some/store"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store.open("~/store").local_root == tmp_path / "store"


def test_an_unknown_kind_of_store_says_what_to_install():
    with pytest.raises(StoreUnreachableError, match=r"nosuch://place cannot be opened.*install"):
        Store.open("nosuch://place")


def test_a_password_is_never_shown():
    with pytest.raises(StoreUnreachableError) as caught:
        Store.open("nosuch://user:secret@place")
    assert "secret" not in str(caught.value)


def test_damaged_json_is_named(store):
    store.write("a.json", b"{")
    with pytest.raises(RecordFormatError, match=r"a\.json is damaged"):
        store.read_json("a.json")


def test_nothing_half_written_stays_when_the_disk_is_full(local_store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    local_store.write("a/file", b"old")
    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StoreUnreachableError, match=r"cannot write a/file: .*No space left.*free space"):
        local_store.write("a/file", b"new")
    with pytest.raises(StoreUnreachableError, match="cannot create a/other"):
        local_store.create("a/other", b"new")
    assert local_store.sizes("a") == {"file": 3}
    assert local_store.read("a/file") == b"old"


def test_a_store_that_is_a_file_fails_with_its_name(tmp_path):
    (tmp_path / "store").write_text("not a folder")
    store = Store.open(str(tmp_path / "store"))
    for write in (store.write, store.create):
        with pytest.raises(StoreUnreachableError, match="a file where a folder has to be"):
            write("a/b", b"")
    assert store.names("a") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_says_so(tmp_path):
    root = tmp_path / "store"
    root.mkdir(mode=0o500)
    with pytest.raises(StoreUnreachableError, match="let this user read and write"):
        Store.open(str(root)).write("a/b", b"")


class Flaky:
    """Fails as often as it is told, then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES", (0, 0, 0))


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("error", [TimeoutError(110, "timed out"), ConnectionResetError(104, "reset"), RuntimeError()])
def test_what_may_pass_is_tried_again(error):
    flaky = Flaky(error, error, error)
    assert attempts.attempt("s3://b", "read a", flaky) == "answer"
    assert flaky.calls == 4


@pytest.mark.usefixtures("_at_once")
def test_what_does_not_pass_becomes_a_clear_failure():
    flaky = Flaky(*[TimeoutError("no answer")] * 9)
    with pytest.raises(
        StoreUnreachableError, match="the store s3://b failed: cannot read a: no answer; see that it is up"
    ):
        attempts.attempt("s3://b", "read a", flaky)
    assert flaky.calls == 4


@pytest.mark.parametrize("number", [28, 30, 13, 1])
def test_a_refusal_is_not_tried_again(number):
    flaky = Flaky(*[OSError(number, os.strerror(number))] * 9)
    with pytest.raises(StoreUnreachableError):
        attempts.attempt("file:///s", "write a", flaky)
    assert flaky.calls == 1


def test_a_refusal_of_a_service_is_not_tried_again():
    flaky = Flaky(*[PermissionError("Access Denied")] * 9)
    with pytest.raises(StoreUnreachableError, match="let this user"):
        attempts.attempt("s3://b", "write a", flaky)
    assert flaky.calls == 1


def test_an_answer_about_a_path_is_passed_on():
    with pytest.raises(FileNotFoundError):
        attempts.attempt("s3://b", "read a", Flaky(FileNotFoundError("a")))


@pytest.mark.usefixtures("_at_once")
def test_a_create_whose_answer_was_lost_knows_that_it_won(local_store, monkeypatch):
    from airflow_mlpipe.store import exclusive

    create, lost = exclusive.create_exclusive, [TimeoutError(110, "timed out")]

    def losing(*arguments):
        created = create(*arguments)
        if lost:
            raise lost.pop()
        return created

    monkeypatch.setattr(exclusive, "create_exclusive", losing)
    assert local_store.create("a/1", b"mine")


def test_what_vanishes_while_it_is_listed_is_left_out_and_nothing_else(local_store, monkeypatch):
    for name in ("folder/a", "folder/b", "other/c"):
        local_store.write(f"all/{name}", b"1")
    scandir = os.scandir

    def vanishing(folder):
        found = scandir(folder)
        if str(folder).endswith("all"):
            local_store.remove("all/folder")
        return found

    monkeypatch.setattr(os, "scandir", vanishing)
    assert local_store.sizes("all") == {"other/c": 1}
