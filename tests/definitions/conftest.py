from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Relative paths start in a folder of the test's own, and no workspace is found by chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLPIPE_WORKSPACE", raising=False)


@pytest.fixture
def project(tmp_path):
    """A folder with a script where the examples look for it."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "prepare.py").write_text("print('prepared')\n")
    (source / "train.py").write_text("print('trained')\n")
    (source / "hosts").write_text("localhost slots=4\n")
    return tmp_path
