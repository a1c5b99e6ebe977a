from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
import tempfile
import unicodedata
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import DataError, StoreUnreachableError
from airflow_mlpipe.store import attempts, digests, layout, statindex
from airflow_mlpipe.store.digests import Content, StatIndex, digest_object, digest_path
from airflow_mlpipe.store.outputs import check, copy, fetch, publish, verify, verify_all
from airflow_mlpipe.store.staging import Stager
from airflow_mlpipe.store.statindex import stamp_of
from airflow_mlpipe.store.store import Store

FP, CLAIM = "0f" * 32, "c1"
PATH = layout.output(FP, CLAIM, "model")
FILES = {"weights.bin": b"w" * 5000, "logs/é.txt": b"log", "logs/empty": b""}


def fill(folder, files):
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(folder)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def put(store, source):
    return publish(store, FP, CLAIM, "model", source)


@pytest.fixture
def made(tmp_path):
    return fill(tmp_path / "made", FILES)


@pytest.fixture
def elsewhere():
    """A folder on another filesystem than the other fixtures."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def test_a_published_folder_is_what_was_made(store, made):
    expected = digest_path(made)
    assert put(store, made) == expected
    assert digest_object(store.fs, store.full(PATH)) == expected
    assert verify(store, PATH, expected) is None


def test_a_published_file_is_what_was_made(store, made):
    content = put(store, made / "weights.bin")
    assert (content.kind, content.size, content.files) == ("file", 5000, 1)
    assert store.read(PATH) == FILES["weights.bin"]
    assert verify(store, PATH, content) is None


def test_an_empty_folder_is_an_output(store, tmp_path):
    (tmp_path / "made" / "below").mkdir(parents=True)
    content = put(store, tmp_path / "made")
    assert (content.kind, content.files) == ("folder", 0)
    assert verify(store, PATH, content) is None
    fetch(store.fs, store.full(PATH), tmp_path / "got")
    assert list((tmp_path / "got").iterdir()) == []


class Flat(MemoryFileSystem):
    """Knows no folders, as the object stores of Google and Azure."""

    protocol = "flat"

    def makedirs(self, path, exist_ok=False):
        pass


def test_an_empty_folder_is_an_output_where_there_are_no_folders(tmp_path):
    (tmp_path / "made").mkdir()
    store = Store("flat://store", Flat(), f"/store-{uuid.uuid4().hex}")
    content = put(store, tmp_path / "made")
    assert store.sizes("") == {}
    assert verify(store, PATH, content) is None
    assert not fetch(store.fs, store.full(PATH), tmp_path / "got", content=content)
    assert list((tmp_path / "got").iterdir()) == []
    with pytest.raises(FileNotFoundError):
        fetch(store.fs, store.full(PATH), tmp_path / "other")


def test_an_output_that_is_not_there_is_said_to_be_missing(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        put(store, tmp_path / "nothing")


def test_published_files_are_read_only_and_folders_can_be_removed(local_store, made):
    (made / "logs").chmod(0o500)
    put(local_store, made)
    root = local_store.local_root / PATH
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()} == {0o444}
    assert all(path.stat().st_mode & stat.S_IWUSR for path in [root, *root.rglob("*")] if path.is_dir())
    local_store.remove(layout.outputs(FP, CLAIM))
    assert not root.exists()


def test_on_one_filesystem_nothing_is_copied(local_store, made):
    inode = (made / "weights.bin").stat().st_ino
    put(local_store, made)
    assert (local_store.local_root / PATH / "weights.bin").stat().st_ino == inode


def test_from_another_filesystem_it_is_copied_whole(local_store, elsewhere):
    made = fill(elsewhere / "made", FILES)
    expected = digest_path(made)
    assert put(local_store, made) == expected
    assert contents(local_store.local_root / PATH) == FILES


def test_a_link_inside_becomes_what_it_leads_to(store, made, tmp_path):
    (made / "latest").symlink_to("weights.bin")
    (made / "more").symlink_to("logs")
    content = put(store, made)
    fetch(store.fs, store.full(PATH), tmp_path / "got")
    assert contents(tmp_path / "got") == {
        **FILES,
        "latest": FILES["weights.bin"],
        "more/é.txt": b"log",
        "more/empty": b"",
    }
    assert digest_path(tmp_path / "got") == content
    assert not any(path.is_symlink() for path in (tmp_path / "got").rglob("*"))


@pytest.mark.parametrize("number", range(8))
def test_what_a_link_leads_to_is_copied_before_it_moves(local_store, tmp_path, number):
    made = fill(tmp_path / "made", {f"folder{number}/a": b"1"})
    for other in range(8):
        if other != number:
            (made / f"folder{other}").symlink_to(f"folder{number}")
    put(local_store, made)
    assert contents(local_store.local_root / PATH) == {f"folder{other}/a": b"1" for other in range(8)}


def test_a_link_that_leaves_is_refused_and_nothing_is_published(store, made, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (made / "link").symlink_to(secret)
    with pytest.raises(DataError, match=r"made/link' is a link that leaves"):
        put(store, made)
    (tmp_path / "output").symlink_to(secret)
    with pytest.raises(DataError, match=r"output' is a link; write the output itself"):
        put(store, tmp_path / "output")
    assert store.sizes("outputs") == {}
    assert stat.S_IMODE(secret.stat().st_mode) & stat.S_IWUSR


def test_a_pipe_is_refused_by_name(store, made):
    os.mkfifo(made / "pipe")
    with pytest.raises(DataError, match=r"made/pipe' is a named pipe"):
        put(store, made)


def test_a_file_that_has_another_name_is_copied(local_store, made, tmp_path):
    other = tmp_path / "other"
    other.hardlink_to(made / "weights.bin")
    put(local_store, made)
    other.write_bytes(b"changed")
    assert (local_store.local_root / PATH / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_names_are_published_in_one_unicode_form(store, tmp_path):
    made = fill(tmp_path / "made", {unicodedata.normalize("NFD", "é"): b"1"})
    put(store, made)
    assert list(store.sizes(PATH)) == ["\u00e9"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store: store.remove(PATH), "it is gone"),
        (lambda store: store.remove(f"{PATH}/logs"), "2 of its 3 files are gone"),
        (lambda store: store.write(f"{PATH}/more", b""), "it has 4 files instead of 3"),
        (lambda store: store.write(f"{PATH}/weights.bin", b"1234"), "it is 7 bytes instead of 5003"),
    ],
)
def test_rule_7_damage_is_said_in_words(store, made, damage, words):
    content = put(store, made)
    damage(store)
    assert verify(store, PATH, content) == words


def test_several_outputs_are_verified_at_once(store, made):
    contents = {
        layout.output(FP, claim, name): publish(store, FP, claim, name, fill(made.parent / f"{claim}{name}", FILES))
        for claim, name in [("c1", "model"), ("c1", "model-2"), ("c2", "model")]
    }
    contents[layout.output(FP, "c2", "one")] = publish(store, FP, "c2", "one", fill(made, FILES) / "weights.bin")
    assert verify_all(store, contents) == dict.fromkeys(contents)
    store.remove(layout.output(FP, "c1", "model"))
    store.write(layout.output(FP, "c2", "one"), b"short")
    missing = layout.output("0e" * 32, "c9", "model")
    assert verify_all(store, {**contents, missing: contents[PATH]}) == {
        layout.output(FP, "c1", "model"): "it is gone",
        layout.output(FP, "c1", "model-2"): None,
        layout.output(FP, "c2", "model"): None,
        layout.output(FP, "c2", "one"): "it is 5 bytes instead of 5000",
        missing: "it is gone",
    }


def test_rule_7_a_file_is_not_taken_for_a_folder(store, made):
    content = put(store, made / "weights.bin")
    assert verify(store, PATH, replace(content, kind="folder")) == "it is a file instead of a folder"


def test_rule_6_an_upload_that_breaks_off_says_what_failed(memory_store, made, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory_store.fs, "put_file", full)
    with pytest.raises(StoreUnreachableError, match=r"cannot write outputs/.*No space left.*free space"):
        put(memory_store, made)
    assert memory_store.sizes("outputs") == {}


@pytest.mark.parametrize("link", [True, False])
def test_what_is_fetched_is_what_was_published(store, made, tmp_path, link):
    content = put(store, made)
    fetch(store.fs, store.full(PATH), tmp_path / "deep" / "got", link=link)
    assert digest_path(tmp_path / "deep" / "got") == content
    fetch(store.fs, store.full(f"{PATH}/weights.bin"), tmp_path / "one", link=link)
    assert (tmp_path / "one").read_bytes() == FILES["weights.bin"]


@pytest.mark.parametrize("link", [True, False])
def test_what_is_fetched_shares_no_writable_bytes(store, made, tmp_path, link):
    content = put(store, made)
    fetch(store.fs, store.full(PATH), tmp_path / "got", link=link)
    for path in (tmp_path / "got").rglob("*"):
        if path.is_file():
            assert bool(path.stat().st_mode & stat.S_IWUSR) is not link
            if os.geteuid() == 0 or not link:
                path.write_bytes(b"vandal")
    assert digest_object(store.fs, store.full(PATH)) == content


def test_files_that_others_may_write_are_copied(tmp_path):
    import fsspec

    data = fill(tmp_path / "data", {"a": b"1"})
    fetch(fsspec.filesystem("file"), str(data), tmp_path / "got")
    (data / "a").write_bytes(b"2")
    assert (tmp_path / "got" / "a").read_bytes() == b"1"


def test_what_is_not_there_cannot_be_fetched(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        fetch(store.fs, store.full(PATH), tmp_path / "got")


@pytest.mark.parametrize(
    ("cut", "words"), [(True, "arrived with 1 bytes instead of 5000"), (False, "cannot be fetched: gone")]
)
def test_a_download_that_is_cut_short_is_an_error(memory_store, made, tmp_path, monkeypatch, cut, words):
    def get_file(_, target):
        if not cut:
            raise ConnectionError("gone")  # noqa: EM101
        Path(target).write_bytes(b"1")

    monkeypatch.setattr(attempts, "PAUSES", (0,))
    put(memory_store, made / "weights.bin")
    monkeypatch.setattr(memory_store.fs, "get_file", get_file)
    with pytest.raises(DataError, match=words):
        fetch(memory_store.fs, memory_store.full(PATH), tmp_path / "got")


@pytest.fixture
def no_clones(monkeypatch):
    """A filesystem whose files do not share blocks, so that a local file is copied."""
    monkeypatch.setattr(Stager, "_clone", lambda *_: False)


def damage(store):
    """Change a byte of a published output, which keeps its size."""
    store.write(f"{PATH}/weights.bin", b"?" + FILES["weights.bin"][1:])


@pytest.mark.usefixtures("no_clones")
def test_rule_7_damage_that_keeps_the_size_is_found_in_what_was_copied(store, made, tmp_path):
    index = StatIndex.open(tmp_path / "index.sqlite")
    content = put(store, made)
    assert fetch(store.fs, store.full(PATH), tmp_path / "whole", link=False)
    assert check(store, PATH, content, tmp_path / "whole", index) is None
    damage(store)
    assert verify(store, PATH, content) is None
    fetch(store.fs, store.full(PATH), tmp_path / "got", link=False)
    assert check(store, PATH, content, tmp_path / "got", index) == "its content is not what was recorded"


@pytest.mark.usefixtures("no_clones")
def test_rule_7_of_a_local_store_only_the_first_copy_is_read_again(local_store, made, tmp_path, monkeypatch):
    content = put(local_store, made)
    index = StatIndex.open(tmp_path / "index.sqlite")
    monkeypatch.setattr(statindex.Settling, "settle", lambda *_: True)
    assert check(local_store, PATH, content, tmp_path / "no copy", index) is None
    monkeypatch.setattr(digests, "_digest_file", None)
    assert check(local_store, PATH, content, tmp_path / "no copy", index) is None


def test_rule_7_a_wrong_index_voids_nothing(local_store, made, tmp_path):
    content = put(local_store, made / "weights.bin")
    place = local_store.local_root / PATH
    index = StatIndex.open(tmp_path / "index.sqlite")
    index.put([(str(place), stamp_of(place.stat()), "sha256:0")])
    assert digest_path(place, index).digest == "sha256:0"
    assert check(local_store, PATH, content, tmp_path / "no copy", index) is None


def test_rule_7_a_copy_that_did_not_arrive_whole_voids_nothing(memory_store, made, tmp_path):
    content = put(memory_store, made / "weights.bin")
    (tmp_path / "got").write_bytes(b"?" * content.size)
    with pytest.raises(DataError, match="did not arrive as it is there; run again"):
        check(memory_store, PATH, content, tmp_path / "got")


def test_what_is_compared_by_its_version_is_not_read(memory_store, tmp_path):
    assert check(memory_store, PATH, Content("file", "version:1", 1, 1), tmp_path / "no copy") is None


def test_what_is_linked_or_cloned_is_not_copied(local_store, made, tmp_path, monkeypatch):
    put(local_store, made)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not fetch(local_store.fs, local_store.full(PATH), tmp_path / "got")


def shares_of_nobody(folder):
    """Return, as somebody who is not root, how many names each fetched file has."""
    os.setuid(65534)
    os.umask(0o022)
    store = Store.open(str(folder / "store"))
    put(store, fill(folder / "mine", {"a": b"1", "b": b"2"}))
    (store.local_root / PATH / "b").chmod(0o644)
    fetch(store.fs, store.full(PATH), folder / "got")
    return {name: (folder / "got" / name).stat().st_nlink for name in ("a", "b")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_who_is_not_root_gets_links_to_read_only_files():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            shares = pool.apply(shares_of_nobody, (folder,))
        assert shares in ({"a": 2, "b": 1}, {"a": 1, "b": 1})  # the latter where the filesystem clones
        assert stat.S_IMODE((folder / "got" / "a").stat().st_mode) == 0o444
    finally:
        shutil.rmtree(folder)


AGAIN = layout.output("1e" * 32, "c2", "model")


def published(store, source):
    content = put(store, source)
    return content, copy(store, PATH, AGAIN, content)


@pytest.mark.parametrize("url", ["local", "memory://copies"])
def test_what_is_published_once_more_is_the_same_and_complete(url, made, tmp_path):
    store = Store.open(str(tmp_path / "store") if url == "local" else url)
    content, lost = published(store, made)
    assert lost is None
    assert verify(store, AGAIN, content) is None
    assert {path: store.read(f"{AGAIN}/{path}") for path in FILES} == FILES
    store.remove("")


def test_a_single_file_is_published_once_more(tmp_path):
    (tmp_path / "one").write_bytes(b"one")
    store = Store.open(str(tmp_path / "store"))
    assert published(store, tmp_path / "one")[1] is None
    assert store.read(AGAIN) == b"one"


def test_a_folder_without_files_is_published_once_more(tmp_path):
    (tmp_path / "none").mkdir()
    store = Store.open(str(tmp_path / "store"))
    assert published(store, tmp_path / "none")[1] is None
    assert (store.local_root / AGAIN).is_dir()


def test_what_was_published_once_more_outlives_the_first(made, tmp_path):
    store = Store.open(str(tmp_path / "store"))
    content, _ = published(store, made)
    status = (store.local_root / AGAIN / "weights.bin").stat()
    assert (status.st_nlink, stat.S_IMODE(status.st_mode)) == (1, 0o444)
    store.remove(PATH)
    assert verify(store, AGAIN, content) is None


def test_what_is_damaged_or_gone_is_not_published_once_more(made, tmp_path):
    store = Store.open(str(tmp_path / "store"))
    content = put(store, made)
    store.remove(f"{PATH}/weights.bin")
    assert copy(store, PATH, AGAIN, content) == "1 of its 3 files are gone"
    store.remove(PATH)
    assert copy(store, PATH, AGAIN, content) == "it is gone"
