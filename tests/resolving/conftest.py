from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """A cache folder for each test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MLPIPE_CACHE", str(folder))
    return folder
