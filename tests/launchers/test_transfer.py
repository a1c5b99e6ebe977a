from __future__ import annotations

import threading
import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.launchers.choose import launcher_for
from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.resolving.facts import read_inputs
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import InputSpec, OutputSpec, StepSpec


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    bucket = Datastore(url=f"memory://{uuid.uuid4().hex}")
    return Site.open(Workspace(datastores={"bucket": bucket}), default_store=tmp_path / "store")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "a.txt").write_text("one")
    (tmp_path / "source" / "sub" / "b c.txt").write_text("two")
    return tmp_path / "source"


def spec(source, destination, *, datastore=None, compare=None):
    return StepSpec(
        "p",
        "copy",
        "data_transfer",
        inputs={"data": InputSpec(str(source), compare=compare)},
        outputs={"data": OutputSpec(destination=str(destination), datastore=datastore)},
    )


def launch(site, spec, launcher=None, log=lambda _: None):
    return (launcher or TransferLauncher(site)).launch(read_inputs(site, spec), "fp", "claim", {}, log)


def test_a_transfer_has_a_launcher_of_its_own(site, source, tmp_path):
    assert isinstance(launcher_for(site, spec(source, tmp_path / "target")), TransferLauncher)
    assert isinstance(launcher_for(site, StepSpec("p", "s", "command")), LocalLauncher)


def test_rule_13_the_output_is_the_destination_with_its_version(site, source, tmp_path):
    target = tmp_path / "target"
    said = []
    output = launch(site, spec(source, target), log=said.append).outputs["data"]
    assert (output.path, output.content.files, output.content.size) == (str(target), 2, 6)
    assert output.token
    assert (target / "sub" / "b c.txt").read_text() == "two"
    assert said[-1] == "sent 2 files, 6 bytes"


def test_it_goes_to_a_datastore_and_back(site, source, tmp_path):
    uri = f"{site.workspace.datastore('bucket').url}/copy"
    there = launch(site, spec(source, uri, datastore="bucket")).outputs["data"]
    back = launch(site, spec(uri, tmp_path / "back")).outputs["data"]
    assert (there.datastore, back.datastore) == ("bucket", None)
    assert back.content == there.content
    assert (tmp_path / "back" / "a.txt").read_text() == "one"


def test_a_destination_that_would_overwrite_the_store_is_refused(site, source, tmp_path):
    for destination in (tmp_path, tmp_path / "store", tmp_path / "store" / "outputs" / "x"):
        with pytest.raises(DataError, match=r"the output store .* and the destination .* lie inside one another"):
            launch(site, spec(source, destination))
    assert (source / "a.txt").exists()


def test_a_file_sent_to_a_folder_is_refused_and_the_folder_stays(site, source, tmp_path):
    (tmp_path / "x.csv").write_text("1")
    with pytest.raises(DataError, match=r"is a folder, which holds 'a.txt'; name the file: .*/source/x.csv"):
        launch(site, spec(tmp_path / "x.csv", source))
    assert (source / "a.txt").read_text() == "one"


def test_rule_5_a_source_whose_version_changes_meanwhile_makes_no_record(site, tmp_path):
    memory = MemoryFileSystem()
    path = f"/{uuid.uuid4().hex}/x"
    memory.pipe_file(path, b"one")

    def edits(line):
        if line.startswith("0 of"):
            memory.pipe_file(path, b"two")

    bound = spec(f"memory:/{path}", tmp_path / "target", compare="version")
    with pytest.raises(DataChangedError, match="has changed since the step was bound; run the step again"):
        launch(site, bound, log=edits)


def test_a_transfer_that_was_killed_before_it_began_sends_nothing(site, source, tmp_path):
    launcher = TransferLauncher(site)
    launcher.kill()
    launcher.kill()
    with pytest.raises(DataError, match="it was stopped"):
        launch(site, spec(source, tmp_path / "target"), launcher)
    assert not [path for path in (tmp_path / "target").rglob("*") if path.is_file()]


def test_a_transfer_that_is_killed_ends_at_once(site, tmp_path):
    (tmp_path / "source").mkdir()
    for number in range(4):
        with (tmp_path / "source" / str(number)).open("wb") as file:
            file.truncate(1 << 40)  # a hole: it takes no room, and ages to read
    launcher = TransferLauncher(site)
    threading.Timer(0.3, launcher.kill).start()
    with pytest.raises(DataError, match="it was stopped"):
        launch(site, spec(tmp_path / "source", tmp_path / "target", compare="path"), launcher)
    assert not [path for path in (tmp_path / "target").rglob("*") if path.is_file()]
