from __future__ import annotations

import uuid

import pytest

from airflow_mlpipe.store.store import Store


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def store(request, tmp_path):
    if request.param == "local":
        return Store.open(str(tmp_path / "store"))
    if request.param == "memory":
        return Store.open(f"memory://store-{uuid.uuid4().hex}")
    server = request.getfixturevalue("s3")
    return Store.open(server.fresh(), server.options)


@pytest.fixture
def local_store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def memory_store():
    return Store.open(f"memory://store-{uuid.uuid4().hex}")


@pytest.fixture
def s3_store(s3, network):
    """A store at a fresh place of the server, reached by the network."""
    return Store.open(s3.fresh(), network.options)
