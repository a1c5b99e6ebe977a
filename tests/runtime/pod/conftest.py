from __future__ import annotations

import pytest

from airflow_mlpipe.store.store import Store
from tests.runtime.pod.pods import Pod


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def pod(request, tmp_path):
    """A pod with a store on a disk that it sees, or on an S3 server."""
    if request.param == "local":
        made = Pod(tmp_path, Store.open(str(tmp_path / "store")))
    else:
        server = request.getfixturevalue("s3")
        made = Pod(tmp_path, Store.open(server.fresh(), server.options), server.options)
    yield made
    made.end()


@pytest.fixture
def local_pod(tmp_path):
    made = Pod(tmp_path, Store.open(str(tmp_path / "store")))
    yield made
    made.end()


@pytest.fixture
def s3_pod(tmp_path, s3, network):
    """A pod whose way to the store can be slowed down and broken."""
    made = Pod(tmp_path, Store.open(s3.fresh(), s3.options), network.options)
    yield made
    made.end()
