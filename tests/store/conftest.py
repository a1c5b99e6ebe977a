from __future__ import annotations

import uuid

import pytest

from airflow_mlpipe.store.store import Store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        return Store.open(str(tmp_path / "store"))
    return Store.open(f"memory://store-{uuid.uuid4().hex}")


@pytest.fixture
def local_store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def memory_store():
    return Store.open(f"memory://store-{uuid.uuid4().hex}")
