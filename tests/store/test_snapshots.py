from __future__ import annotations

import stat
import tarfile
from pathlib import Path

import pytest

from airflow_mlpipe.exceptions import DataChangedError, RecordFormatError
from airflow_mlpipe.store import layout, snapshots
from airflow_mlpipe.store.digests import digest_files
from airflow_mlpipe.store.snapshots import Snapshot, SourceFile

CODE = {"train.py": b"print(1)\n", "lib/größe.py": b"", "run.sh": b"#!/bin/sh\n"}


@pytest.fixture
def source(tmp_path):
    for name, content in CODE.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "source" / "ignored.txt").write_text("not code")
    return tmp_path / "source"


@pytest.fixture
def snapshot(source):
    digests = digest_files([source / name for name in CODE])
    return Snapshot(
        {name: SourceFile(digest, executable=name == "run.sh") for name, digest in zip(CODE, digests, strict=True)}
    )


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_the_digest_is_pinned():
    files = {"a.py": SourceFile("sha256:" + "0" * 64), "run.sh": SourceFile("sha256:" + "1" * 64, executable=True)}
    assert Snapshot(files).digest == "sha256:303e6710864fe8812fd4f6a0f4383802e721a51eaa6e79f4378b66ec94590c47"
    assert Snapshot(dict(reversed(files.items()))).digest == Snapshot(files).digest
    assert (
        Snapshot({**files, "a.py": SourceFile("sha256:" + "0" * 64, executable=True)}).digest != Snapshot(files).digest
    )


def test_what_is_packed_is_unpacked(store, source, snapshot, tmp_path):
    assert not snapshots.exists(store, snapshot.digest)
    snapshots.pack(store, source, snapshot)
    assert snapshots.exists(store, snapshot.digest)
    assert snapshots.read(store, snapshot.digest) == snapshot
    snapshots.unpack(store, snapshot.digest, tmp_path / "work" / "code")
    assert contents(tmp_path / "work" / "code") == CODE
    assert (tmp_path / "work" / "code" / "run.sh").stat().st_mode & stat.S_IXUSR
    assert not (tmp_path / "work" / "code" / "train.py").stat().st_mode & stat.S_IXUSR
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["code"]


def test_an_unpacked_snapshot_is_a_copy_that_may_be_written(store, source, snapshot, tmp_path):
    snapshots.pack(store, source, snapshot)
    for name in ("one", "two"):
        snapshots.unpack(store, snapshot.digest, tmp_path / name)
        (tmp_path / name / "train.py").write_text("vandal")
    snapshots.unpack(store, snapshot.digest, tmp_path / "three")
    assert contents(tmp_path / "three") == CODE


def test_packing_again_writes_nothing(store, source, snapshot):
    snapshots.pack(store, source, snapshot)
    (source / "train.py").unlink()
    snapshots.pack(store, source, snapshot)


def test_equal_files_make_equal_bytes(local_store, memory_store, source, snapshot, tmp_path):
    snapshots.pack(local_store, source, snapshot)
    (source / "train.py").touch()
    (source / "lib").chmod(0o700)
    snapshots.pack(memory_store, source, snapshot)
    path = layout.snapshot(snapshot.digest)
    assert local_store.read(path) == memory_store.read(path)
    with tarfile.open(local_store.local_root / path) as packed:
        assert packed.getnames() == sorted(CODE)
    del tmp_path


@pytest.mark.parametrize("edit", [lambda path: path.write_text("edited"), lambda path: path.unlink()])
def test_a_file_edited_meanwhile_is_refused_and_nothing_is_packed(store, source, snapshot, edit):
    edit(source / "train.py")
    with pytest.raises(DataChangedError, match=r"train\.py"):
        snapshots.pack(store, source, snapshot)
    assert store.sizes("snapshots") == {}


def test_an_empty_directory_is_a_snapshot(store, tmp_path):
    empty = Snapshot({})
    snapshots.pack(store, tmp_path, empty)
    snapshots.unpack(store, empty.digest, tmp_path / "code")
    assert list((tmp_path / "code").iterdir()) == []


def test_a_snapshot_that_is_not_there_is_said_to_be_missing(store, snapshot, tmp_path):
    with pytest.raises(FileNotFoundError):
        snapshots.read(store, snapshot.digest)
    with pytest.raises(FileNotFoundError):
        snapshots.unpack(store, snapshot.digest, tmp_path / "code")
    assert not (tmp_path / "code").exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (layout.snapshot, b""),
        (layout.snapshot, b"no tar" * 200),
        (layout.snapshot_manifest, b"{"),
        (layout.snapshot_manifest, b'{"format": 1, "files": {}}'),
    ],
)
def test_rule_10_a_damaged_snapshot_is_never_taken_for_whole(store, source, snapshot, tmp_path, file, content):
    snapshots.pack(store, source, snapshot)
    store.write(file(snapshot.digest), content)
    with pytest.raises(RecordFormatError, match=r"damaged .* is removed; run the pipeline again"):
        snapshots.unpack(store, snapshot.digest, tmp_path / "code")
    assert not (tmp_path / "code").exists()
    assert not snapshots.exists(store, snapshot.digest)
    snapshots.pack(store, source, snapshot)
    snapshots.unpack(store, snapshot.digest, tmp_path / "code")
    assert contents(tmp_path / "code") == CODE


def test_rule_10_a_changed_file_in_a_snapshot_is_found(store, source, snapshot, tmp_path):
    snapshots.pack(store, source, snapshot)
    path = layout.snapshot(snapshot.digest)
    store.write(path, store.read(path).replace(b"print(1)", b"print(2)"))
    with pytest.raises(RecordFormatError, match=r"train\.py is not what its digest says"):
        snapshots.unpack(store, snapshot.digest, tmp_path / "code")


def test_a_snapshot_of_a_newer_version_is_refused(store, snapshot):
    store.write(layout.snapshot_manifest(snapshot.digest), b'{"format": 2}')
    with pytest.raises(RecordFormatError, match="upgrade"):
        snapshots.read(store, snapshot.digest)


def test_a_text_is_kept_under_its_digest(store):
    digest = snapshots.put_blob(store, b"numpy==2.0\n")
    assert digest == snapshots.blob_digest(b"numpy==2.0\n") == snapshots.put_blob(store, b"numpy==2.0\n")
    assert snapshots.get_blob(store, digest) == b"numpy==2.0\n"
    store.write(layout.blob(digest), b"numpy==1.0\n")
    with pytest.raises(RecordFormatError, match="is damaged"):
        snapshots.get_blob(store, digest)
    with pytest.raises(FileNotFoundError):
        snapshots.get_blob(store, "0" * 64)
