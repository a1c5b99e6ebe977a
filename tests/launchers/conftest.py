from __future__ import annotations

import sys

import pytest

from airflow_mlpipe.store.store import Store
from tests.launchers.steps import Bench


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    return Bench(tmp_path, Store.open(str(tmp_path / "store")), sys.executable)


@pytest.fixture
def remote(tmp_path, monkeypatch, request):
    """A bench whose store is not on the local disk."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return Bench(tmp_path, Store.open(f"memory://{request.node.name}"), sys.executable)
