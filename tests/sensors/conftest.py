"""What sensors are tried in: a store in which runs have ended steps, and an Airflow that is kept in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.operators import here
from airflow_mlpipe.resolving.site import Site
from tests.journaled import Journaled
from tests.operators.fake_airflow import Airflow

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _nobody_elses_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "MLPIPE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLPIPE_STORE", str(tmp_path / "store"))
    here._workspace.cache_clear()


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """Runs tasks."""
    fake = Airflow()
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", fake, raising=False)
    return fake


@pytest.fixture
def world(tmp_path: Path) -> Journaled:
    """Makes what runs leave in the store that sensors look at."""
    return Journaled(Site.open(Workspace(), default_store=""), tmp_path)
