from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reuse.engine import Engine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the stat index of this user and an Airflow of theirs out of the tests."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)
