from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import uuid

import pytest

from airflow_mlpipe.launchers import abandoned
from airflow_mlpipe.launchers.directory import step_directory, sweep
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.store.store import Store

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A folder for the temporary files of this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def far():
    return Store.open(f"memory://store-{uuid.uuid4().hex}")


def killed_in(far, *folders):
    """Begin a step in a process that is killed in it; return its directory."""
    reader, writer = FORK.Pipe(duplex=False)

    def begin():
        with step_directory(far, "c") as root:
            for folder in folders:
                (root / folder).mkdir(mode=0o500, parents=True)
            writer.send(root)
            time.sleep(60)

    process = FORK.Process(target=begin)
    process.start()
    root = reader.recv()
    assert sweep() == []  # it lives
    process.kill()
    process.join()
    return root


def test_the_directory_of_a_step_that_was_killed_goes_when_the_next_one_begins(far):
    root = killed_in(far, "code/read-only", "inputs")
    assert root.is_dir()
    with step_directory(far, "c") as other:
        assert other.is_dir()
        assert not root.exists()
    assert not other.exists()


def test_what_a_failed_step_wrote_stays_for_a_week(far, monkeypatch):
    root = killed_in(far, "outputs/model")
    assert sweep() == []
    assert root.is_dir()
    monkeypatch.setattr(abandoned, "KEPT", 0.0)
    assert sweep() == [root]
    assert not root.exists()


def test_directories_of_others_stay(temporary):
    tag = abandoned.process_tag()
    process, start, place = tag.split("-")
    names = [
        f"mlpipe-step-{tag}.mine",
        f"mlpipe-step-999999999-{start}-{'0' * 12}.elsewhere",
        "mlpipe-step-.untold",
        "mlpipe-abcdefgh",
        f"other-999999999-{start}-{place}.x",
    ]
    for name in names:
        (temporary / name).mkdir()
    dead = temporary / f"mlpipe-step-999999999-{start}-{place}.x"
    dead.mkdir()
    again = temporary / f"mlpipe-step-{process}-{int(start) + 1}-{place}.x"
    again.mkdir()
    (temporary / f"mlpipe-step-999999999-{start}-{place}.link").symlink_to(temporary / names[0])
    assert sweep() == sorted([dead, again])
    assert sorted(path.name for path in temporary.iterdir() if path.is_dir() and not path.is_symlink()) == sorted(names)


def test_a_short_name_that_leads_nowhere_goes(tmp_path):
    gone, there = StepDirectory(tmp_path / "gone"), StepDirectory(tmp_path / "there")
    there.root.mkdir()
    for directory in (gone, there):
        directory.short_temporary.symlink_to(directory.temporary)
    try:
        sweep()
        assert not os.path.lexists(gone.short_temporary)
        assert there.short_temporary.is_symlink()
    finally:
        there.short_temporary.unlink()
