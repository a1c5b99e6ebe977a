"""What holds for all tests."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.engine import engine as docker_engine
from tests.s3 import s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine import Engine
    from tests.s3 import Network, Server

# How fast examples are made depends on what else the machine does, and says nothing about the code.
settings.register_profile("mlpipe", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mlpipe")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Give Airflow a home of its own: it looks for it when a test module imports it, and keeps it."""
    home = tempfile.TemporaryDirectory(prefix="airflow-of-tests-")
    session.config.add_cleanup(home.cleanup)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", home.name)
        return (yield)


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """An S3 server, started for whoever asks first; nobody stops it."""
    with s3_server() as server:
        yield server


@pytest.fixture
def network(s3: Server) -> Iterator[Network]:
    """A way to the server of one's own, to be watched and broken."""
    with s3.network() as network:
        yield network


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker engine with the images of tests, started for whoever asks first."""
    with docker_engine() as running:
        yield running
