from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    """Keep the stat index of this user and a store of theirs out of the tests."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
