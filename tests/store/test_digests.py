from __future__ import annotations

import hashlib
import mmap
import os
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe import fingerprint
from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.store import attempts, digests, statindex
from airflow_mlpipe.store.digests import (
    Content,
    StatIndex,
    digest_files,
    digest_object,
    digest_path,
    folder_digest,
    is_local,
    local_files,
)

OPENED: list[str] = []
_watching = [False]


def _note_open(event, arguments):
    if _watching[0] and event == "open" and isinstance(arguments[0], str):
        OPENED.append(arguments[0])


sys.addaudithook(_note_open)


@pytest.fixture
def opened():
    """The paths opened so far in this test, as the interpreter itself reports them."""
    OPENED.clear()
    _watching[0] = True
    yield OPENED
    _watching[0] = False


def sha(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def fill(folder, files):
    for name, content in files.items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Path(folder)


@pytest.fixture
def on_disk(monkeypatch):
    """Take the temporary folder for one on a disk, wherever it is."""
    monkeypatch.setattr(statindex, "filesystem_of", lambda _: 0xEF53)


def age():
    """Make files as old as the stat index wants them; nothing can set their change time, so wait."""
    time.sleep(2.05)


def test_the_digests_are_pinned(tmp_path):
    fill(tmp_path / "data", {"a.txt": b"one", "b/c.txt": b"three"})
    assert digest_path(tmp_path / "data" / "a.txt") == Content(
        "file", "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", 3, 1
    )
    assert digest_path(tmp_path / "data") == Content(
        "folder", "sha256:6d7fd2378ad60f68791ef658627a3dd67957b6eccb0023929ab240d3ae2ea4c5", 8, 2
    )
    assert folder_digest({}) == "sha256:9e806c343d1d43902af37798d2ecd2bf71bcde05ed42b0b39e31beed3cee86d7"


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text("0123456789abcdef")))
def test_a_folder_digest_is_that_of_the_canonical_encoding(files):
    pairs = [[path, digest] for path, digest in sorted(files.items())]
    assert folder_digest(files) == sha(fingerprint.encode({"folder": pairs}))


def test_rule_5_modes_times_and_empty_folders_are_no_data(tmp_path):
    first = fill(tmp_path / "first", {"a": b"1", "b/c": b"2"})
    second = fill(tmp_path / "second", {"b/c": b"2", "a": b"1"})
    (second / "empty" / "below").mkdir(parents=True)
    (second / "a").chmod(0o755)
    os.utime(second / "a", (1, 1))
    assert digest_path(first) == digest_path(second)


@pytest.mark.parametrize("change", [{"a": b"2"}, {"c": b""}, {"b/a": b"1"}])
def test_rule_5_content_and_names_are_data(tmp_path, change):
    first = fill(tmp_path / "first", {"a": b"1"})
    second = fill(tmp_path / "second", {"a": b"1"})
    fill(second, change)
    assert digest_path(first) != digest_path(second)


def test_a_file_is_not_a_folder_with_one_file(tmp_path):
    fill(tmp_path, {"folder/a": b"1", "a": b"1"})
    assert digest_path(tmp_path / "folder").digest != digest_path(tmp_path / "a").digest


def test_rule_5_a_link_inside_is_followed(tmp_path):
    plain = fill(tmp_path / "plain", {"a": b"1", "b": b"1", "d/x": b"2", "e/x": b"2"})
    linked = fill(tmp_path / "linked", {"a": b"1", "d/x": b"2"})
    (linked / "b").symlink_to("a")
    (linked / "e").symlink_to(linked / "d")
    assert digest_path(linked) == digest_path(plain)


def test_rule_5_a_link_that_leaves_is_refused_by_name(tmp_path):
    fill(tmp_path, {"data/a": b"1", "data-2/a": b"1"})
    (tmp_path / "data" / "b").symlink_to("../data-2/a")
    with pytest.raises(DataError, match=r"data/b' is a link that leaves .*data-2/a"):
        digest_path(tmp_path / "data")


def test_a_link_that_leads_nowhere_or_in_a_circle_is_refused(tmp_path):
    fill(tmp_path, {"one/a": b"1", "two/d/a": b"1", "three/a": b""})
    (tmp_path / "one" / "b").symlink_to("gone")
    (tmp_path / "two" / "d" / "up").symlink_to("..")
    (tmp_path / "three" / "self").symlink_to("self")
    with pytest.raises(DataError, match="leads nowhere"):
        digest_path(tmp_path / "one")
    with pytest.raises(DataError, match="folder that contains it"):
        digest_path(tmp_path / "two")
    with pytest.raises(DataError, match="leads nowhere"):
        digest_path(tmp_path / "three")


def test_the_root_itself_may_be_a_link(tmp_path):
    fill(tmp_path / "data", {"a": b"1"})
    (tmp_path / "link").symlink_to("data")
    assert digest_path(tmp_path / "link") == digest_path(tmp_path / "data")
    (tmp_path / "file").symlink_to("data/a")
    assert digest_path(tmp_path / "file").digest == sha(b"1")


def test_a_pipe_is_refused_by_name(tmp_path):
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "pipe")
    with pytest.raises(DataError, match=r"data/pipe' is a named pipe"):
        digest_path(tmp_path / "data")
    with pytest.raises(DataError, match="is a named pipe"):
        digest_path(tmp_path / "data" / "pipe")
    with pytest.raises(DataError, match="is a device"):
        digest_path(Path("/dev/null"))


def test_rule_5_names_are_compared_in_one_unicode_form(tmp_path):
    first = fill(tmp_path / "first", {unicodedata.normalize("NFC", "é"): b"1"})
    second = fill(tmp_path / "second", {unicodedata.normalize("NFD", "é"): b"1"})
    assert digest_path(first) == digest_path(second)
    fill(first, {unicodedata.normalize("NFD", "é"): b"1"})
    with pytest.raises(DataError, match="spelt differently in Unicode only"):
        digest_path(first)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/data/\xff")).write_bytes(b"")
    with pytest.raises(DataError, match="is not UTF-8"):
        digest_path(tmp_path / "data")


def test_what_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        digest_path(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        digest_files([tmp_path / "nothing"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_what_cannot_be_read_is_named(tmp_path):
    fill(tmp_path, {"data/a": b"1"})
    (tmp_path / "data" / "a").chmod(0)
    with pytest.raises(DataError, match=r"data/a' cannot be read"):
        digest_path(tmp_path / "data")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before = path.stat()
    path.write_bytes(b"22")
    with pytest.raises(DataChangedError, match="changed while it was read"):
        digests._digest_file(str(path), before, None)
    path.unlink()
    with pytest.raises(DataChangedError, match="removed while it was read"):
        digests._digest_file(str(path), before, None)


@pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_files_of_every_size_are_read_whole(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    assert digest_files([tmp_path / "a"]) == [sha(content)]


def test_digests_come_in_the_order_of_the_paths(tmp_path):
    fill(tmp_path, {f"{number}": b"%d" % number * (number * 200000) for number in range(12)})
    paths = [tmp_path / f"{number}" for number in (11, 3, 7, 3, 0)]
    assert digest_files(paths) == [sha(path.read_bytes()) for path in paths]
    assert digest_files([]) == []


@pytest.mark.usefixtures("on_disk")
def test_rule_5_a_second_look_at_unchanged_files_reads_nothing(tmp_path, opened):
    data = fill(tmp_path / "data", {f"{number // 30}/{number}": b"%d" % number for number in range(100)})
    age()
    opened.clear()
    index = StatIndex.open(tmp_path / "index.sqlite")
    first = digest_path(data, index)
    assert len([path for path in opened if path.startswith(str(data))]) == 100
    opened.clear()
    assert digest_path(data, index) == first
    assert digest_path(data, StatIndex.open(tmp_path / "index.sqlite")) == first
    assert [path for path in opened if path.startswith(str(data))] == []
    (data / "0" / "1").write_bytes(b"other")
    assert digest_path(data, index) == digest_path(data) != first


@pytest.mark.usefixtures("on_disk")
def test_rule_5_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    data = fill(tmp_path / "data", {"a": b"1"})
    os.utime(data / "a", ns=(1, 1))
    age()
    index = StatIndex.open(tmp_path / "index.sqlite")
    first = digest_path(data, index)
    (data / "a").write_bytes(b"2")
    os.utime(data / "a", ns=(1, 1))
    assert digest_path(data, index) != first
    (data / "a").replace(data / "b")
    fill(data, {"a": b"3"})
    (data / "b").replace(data / "a")
    assert digest_path(data, index).digest == digest_path(data).digest


def write_mapped(path, digest):
    """Write again and again to a page of a mapped file; return the digests after each write, and those it should have."""
    path.write_bytes(b"A" * 8192)
    seen = []
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[0:1] = b"B"
        age()
        for letter in (b"B", b"C", b"D"):
            mapped[0:1] = letter
            seen.append(digest(path))
    return seen, [sha(letter + b"A" * 8191) for letter in (b"B", b"C", b"D")]


def test_rule_5_every_write_through_a_mapping_is_seen(tmp_path):
    index = StatIndex.open(tmp_path / "index.sqlite")
    seen, expected = write_mapped(tmp_path / "a", lambda path: digest_path(path, index).digest)
    assert seen == expected


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no filesystem in memory")
def test_rule_5_every_write_through_a_mapping_is_seen_on_a_filesystem_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(statindex, "WRITTEN_BACK_NS", 0)  # however old it is
    index = StatIndex.open(tmp_path / "index.sqlite")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        seen, expected = write_mapped(Path(folder, "a"), lambda path: digest_path(path, index).digest)
    assert seen == expected


def test_rule_5_a_young_file_is_not_remembered(tmp_path, opened):
    data = fill(tmp_path / "data", {"a": b"1"})
    index = StatIndex.open(tmp_path / "index.sqlite")
    digest_path(data, index)
    opened.clear()
    digest_path(data, index)
    assert str(data / "a") in opened


@pytest.mark.parametrize("protocol", ["local", "memory"])
def test_rule_5_an_object_has_the_digest_of_its_copy(tmp_path, protocol):
    data = fill(tmp_path / "data", {"a": b"1", "b/é": b"2" * (3 << 20), "b/c/d": b""})
    if protocol == "local":
        fs, root = fsspec.filesystem("file"), str(data)
    else:
        fs, root = fsspec.filesystem("memory"), f"/{tmp_path.name}-digests"
        for relative, path in local_files(data).items():
            fs.pipe_file(f"{root}/{relative}", path.read_bytes())
    assert digest_object(fs, root) == digest_path(data)
    assert digest_object(fs, f"{root}/a") == digest_path(data / "a")
    with pytest.raises(FileNotFoundError):
        digest_object(fs, f"{root}/nothing")


def test_an_object_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSES", (0,))

    class Down(type(fsspec.filesystem("memory"))):
        protocol = "down"

        def info(self, path):
            raise ConnectionError(path)

    with pytest.raises(DataError, match=r"down://.*/a cannot be read"):
        digest_object(Down(), "/a")


def test_only_the_local_disk_is_local():
    assert is_local(fsspec.filesystem("file"))
    assert not is_local(fsspec.filesystem("memory"))
