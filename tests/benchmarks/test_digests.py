"""What some data is: digests of many small files and of few large ones, against DVC.

Both are whole commands, with the start of their Python, and find the data in the page cache. What is left without that
start is told below them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.table import Row, Target, side_by_side, timed, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.benchmarks.dvc import Dvc

pytestmark = pytest.mark.benchmark

OURS = """
import sys, time
from pathlib import Path
from airflow_mlpipe.store.digests import StatIndex, digest_path
start = time.perf_counter()
digest_path(Path(sys.argv[1]), StatIndex.open(Path(sys.argv[2])))
print(time.perf_counter() - start)
"""
THEIRS = """
import time
from dvc.repo import Repo, status
start = time.perf_counter()
Repo().status()
print(time.perf_counter() - start)
"""


def small_files(folder: Path) -> None:
    for number in range(20_000):
        path = folder / f"{number // 100:03}" / f"{number % 100:02}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))


def large_files(folder: Path) -> None:
    folder.mkdir()
    block = os.urandom(1 << 24)
    for number in range(2):
        with (folder / f"{number}.bin").open("wb") as file:
            for part in range(64):
                file.write(bytes([number, part]) + block[2:])


@pytest.mark.parametrize(
    ("what", "make"), [("20,000 files of 4 KB", small_files), ("2 files of 1 GB", large_files)], ids=["small", "large"]
)
def test_digests(what: str, make: Callable[[Path], None], room: Path, dvc: Dvc, show: Callable[..., None]) -> None:
    data, index = dvc.repository / "data", room / "index.sqlite"
    make(data)
    time.sleep(2.5)  # files younger than two seconds are not remembered

    def ours_cold() -> float:
        for file in room.glob("index.sqlite*"):
            file.unlink()
        return timed(lambda: told(OURS, data, index))()

    def theirs_cold() -> float:
        dvc.start_anew()
        return dvc.run("add", "--no-commit", "data")

    cold = side_by_side({"ours": ours_cold, "dvc": theirs_cold})
    again = side_by_side(
        {"ours": timed(lambda: told(OURS, data, index)), "dvc": lambda: dvc.run("status")}
        | {"ours inside": lambda: told(OURS, data, index), "dvc inside": lambda: told(THEIRS, cwd=dvc.repository)}
    )
    show(
        Row(f"digest {what}, cold", cold["ours"], "dvc add --no-commit", cold["dvc"], Target("faster", 3)),
        Row(f"digest {what}, again", again["ours"], "dvc status", again["dvc"], Target("faster", 10)),
        Row("  without the start of Python", again["ours inside"], "Repo.status()", again["dvc inside"]),
    )
