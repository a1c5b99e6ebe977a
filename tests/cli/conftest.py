from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.helpers import Project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "MLPIPE_")) and name not in {"MLPIPE_CACHE", "MLPIPE_REQUIRE"}:
            monkeypatch.delenv(name)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project")
