"""The benchmarks print what they measure as it comes, and everything as one table at the end."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.dvc import Dvc
from tests.benchmarks.table import Row, format_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ROWS: list[Row] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "benchmark" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("benchmark"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; make bench runs it"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _ROWS:
        terminalreporter.section("benchmarks: seconds as median (least-most)")
        terminalreporter.write_line(format_table(_ROWS))


@pytest.fixture
def show() -> Callable[..., None]:
    """Print rows, and keep them for the table."""

    def add(*rows: Row) -> None:
        _ROWS.extend(rows)
        print("\n" + format_table(list(rows)), flush=True)

    return add


@pytest.fixture
def room() -> Iterator[Path]:
    """Return a folder that is gone afterwards, whatever gigabytes it held."""
    with tempfile.TemporaryDirectory(prefix="mlpipe-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def dvc(room: Path) -> Dvc:
    """Return DVC with a repository of its own in ``room``."""
    program = Path(sys.executable).with_name("dvc")
    if not program.exists():
        pytest.skip("DVC is not installed: pip install 'airflow-mlpipe[bench]'")
    repository = room / "repository"
    repository.mkdir()
    return Dvc(program, repository, room / "dvc-memory")
