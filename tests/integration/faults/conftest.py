from __future__ import annotations

import pytest

from tests.s3 import s3_server


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    """Keep the stat index of this user and a store of theirs out of the tests."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def network(s3):
    with s3.network() as network:
        yield network
