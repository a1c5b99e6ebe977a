from __future__ import annotations

import pytest

from tests.s3 import s3_server


@pytest.fixture(scope="session")
def s3():
    """An S3 server, started for whoever asks first."""
    with s3_server() as server:
        yield server


@pytest.fixture
def network(s3):
    """A way to the server of one's own, to be watched and broken."""
    with s3.network() as network:
        yield network
