"""Services that integration tests need: a marked test is skipped where its service is missing.

``MLPIPE_REQUIRE=scheduler,chromium,docker,s3,kubernetes,mpi,torch,mlflow`` (or some of them) makes it fail there instead.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from airflow_mlpipe.up import LocalAirflow
from tests import engine, many, mlflowserver
from tests.integration.harness import FAST, Harness

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _scheduler() -> str | None:
    return None if find_spec("airflow") else "Airflow is not installed"


def _chromium() -> str | None:
    return None if any(map(shutil.which, BROWSERS)) else f"none of {', '.join(BROWSERS)} is on the PATH"


def _s3() -> str | None:
    return None if find_spec("moto") and find_spec("s3fs") else "moto[server] and s3fs are not installed"


def _kubernetes() -> str | None:
    named = os.environ.get("KUBECONFIG", "")
    return None if named and Path(named).exists() else "KUBECONFIG names no file"


SERVICES = {
    "scheduler": ("scheduler", _scheduler),
    "ui": ("chromium", _chromium),
    "docker": ("docker", engine.missing),
    "s3": ("s3", _s3),
    "kubernetes": ("kubernetes", _kubernetes),
    "mpi": ("mpi", many.mpi_missing),
    "torch": ("torch", many.torch_missing),
    "mlflow": ("mlflow", mlflowserver.missing),
}
"""The marker of a test, the name of its service in MLPIPE_REQUIRE, and what says why it is missing."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing, or fail where the service is required."""
    required = {name.strip() for name in os.environ.get("MLPIPE_REQUIRE", "").split(",")}
    for marker, (service, missing) in SERVICES.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            if service in required:
                pytest.fail(f"MLPIPE_REQUIRE names {service}, but {reason}", pytrace=False)
            pytest.skip(f"{service}: {reason}")


@pytest.fixture(scope="session")
def airflow(tmp_path_factory):
    """A real Airflow over a folder that tests write DAGs into; started once, for whoever asks first."""
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    with LocalAirflow(folder / "home", dags, settings=FAST) as local:
        yield Harness(local)
