"""What holds for all tests."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

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
