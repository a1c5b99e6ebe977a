from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store import checkpoints, layout

FINGERPRINT = "ab" * 32


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "checkpoint"
    (made / "epoch").mkdir(parents=True)
    (made / "epoch" / "weights").write_bytes(b"1" * 1000)
    (made / "state.json").write_text("{}")
    return made


def test_what_was_saved_is_restored_and_can_be_written_to(store, folder, tmp_path):
    assert checkpoints.save(store, FINGERPRINT, folder)
    assert checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    assert (tmp_path / "again" / "epoch" / "weights").read_bytes() == b"1" * 1000
    (tmp_path / "again" / "state.json").write_text("more")
    assert (folder / "state.json").read_text() == "{}"


def test_only_the_last_state_is_kept(store, folder, tmp_path):
    checkpoints.save(store, FINGERPRINT, folder)
    (folder / "state.json").write_text('{"epoch": 2}')
    checkpoints.save(store, FINGERPRINT, folder)
    checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    assert (tmp_path / "again" / "state.json").read_text() == '{"epoch": 2}'
    assert len(store.sizes(layout.checkpoints(FINGERPRINT))) == 3


def test_there_is_nothing_to_restore_before_and_after(store, folder, tmp_path):
    assert not checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    checkpoints.save(store, FINGERPRINT, folder)
    checkpoints.remove(store, FINGERPRINT)
    assert not checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_empty_folder_is_not_saved(store, tmp_path):
    (tmp_path / "empty").mkdir()
    assert not checkpoints.save(store, FINGERPRINT, tmp_path / "empty")


@pytest.mark.parametrize("files", [1, 2])
def test_a_save_that_is_stopped_leaves_the_state_before(store, folder, tmp_path, files):
    checkpoints.save(store, FINGERPRINT, folder)
    (folder / "state.json").write_text("later")
    asked = iter([False] * (files - 1) + [True] * 9)
    assert not checkpoints.save(store, FINGERPRINT, folder, lambda: next(asked))
    assert checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    assert (tmp_path / "again" / "state.json").read_text() == "{}"


def test_what_is_written_meanwhile_is_not_saved(store, folder):
    def writes():
        (folder / "state.json").write_text("longer than before")
        return False

    assert not checkpoints.save(store, FINGERPRINT, folder, writes)
    assert store.sizes(layout.checkpoints(FINGERPRINT)) == {}


@pytest.mark.parametrize("what", ["weights", "latest"])
def test_a_damaged_state_is_not_restored(local_store, folder, tmp_path, what):
    store = local_store
    checkpoints.save(store, FINGERPRINT, folder)
    found = store.sizes(layout.checkpoints(FINGERPRINT))
    path = next(path for path in found if what in path)
    store.write(f"{layout.checkpoints(FINGERPRINT)}/{path}", b"damaged")
    assert not checkpoints.restore(store, FINGERPRINT, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_cannot_be_data_is_refused(store, folder):
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="leaves"):
        checkpoints.save(store, FINGERPRINT, folder)
