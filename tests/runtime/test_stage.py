"""Staging some files of a folder; whole inputs are tried with the launchers."""

from __future__ import annotations

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.exceptions import DataChangedError, InputLostError
from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec, dump, load_spec
from airflow_mlpipe.runtime.stage import prepare
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store

FILES = {"a": "a", "b": "b", "sub/c": "c"}
WANTED = ("a", "sub/c")


def fill(folder, files=FILES):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def wanted(tmp_path):
    """What a folder with only the wanted files is."""
    return digest_path(fill(tmp_path / "wanted", {name: FILES[name] for name in WANTED}))


class Staging:
    """Stages some files of an input into a step directory."""

    def __init__(self, root, content):
        self.root = root
        self.content = content
        self.store = Store.open(str(root / "store"))

    def spec(self, uri, datastore=None, mode="mount"):
        given = InputSpec(uri, self.content, mode, datastore=datastore, files=WANTED)
        return StepSpec("p", "s", "command", inputs={"images": given})

    def stage(self, spec, fs=None):
        staged = prepare(self.store, spec, self.root / "step", lambda uri, _: (fs or LocalFileSystem(), uri), None)
        folder = self.root / "step" / "inputs" / "images"
        return staged, {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def staging(tmp_path, wanted):
    return Staging(tmp_path, wanted)


def published(staging):
    path = layout.output("0f" * 32, "c1", "images")
    publish(staging.store, "0f" * 32, "c1", "images", fill(staging.root / "made"))
    return path


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_only_the_files_that_are_named_are_staged_from_the_store(staging, mode):
    _, found = staging.stage(staging.spec(staging.store.uri(published(staging)), mode=mode))
    assert found == set(WANTED)


def test_only_the_files_that_are_named_are_staged_from_outside(staging):
    place = fill(staging.root / "raw")
    staged, found = staging.stage(staging.spec(place.as_uri(), "landing"), None)
    assert found == set(WANTED)
    (place / "b").write_text("others may change")
    staged.check_inputs()


def test_they_are_staged_from_another_filesystem(staging):
    fs = MemoryFileSystem()
    for name, text in FILES.items():
        fs.pipe_file(f"/raw/{name}", text.encode())
    _, found = staging.stage(staging.spec("/raw", "landing"), fs)
    assert found == set(WANTED)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_rule_5_a_file_that_changed_outside_makes_no_record(staging, damage):
    place = fill(staging.root / "raw")
    (place / "a").unlink() if damage == "gone" else (place / "a").write_text("x")
    with pytest.raises(DataChangedError, match="input 'images' changed after the step was planned"):
        staging.stage(staging.spec(place.as_uri(), "landing"))


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_rule_7_a_file_that_is_damaged_in_the_store_is_a_lost_input(staging, damage):
    path = published(staging)
    file = staging.store.local_root / path / "a"
    file.unlink()
    if damage == "changed":
        file.write_text("x")
    with pytest.raises(InputLostError) as lost:
        staging.stage(staging.spec(staging.store.uri(path)))
    assert lost.value.path == path


def test_the_files_cross_a_process_boundary(staging):
    spec = staging.spec("file:///raw")
    assert load_spec(dump(spec)) == spec
