"""Bringing inputs and publishing outputs, by what a pod's staging containers run, against ``rclone copy``.

Both talk to one S3 server on loopback, rclone's own. Ours digests all that it brings and publishes besides, reads what
it brought once more to compare, and makes a step directory around it.
"""

from __future__ import annotations

import itertools
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec
from airflow_mlpipe.runtime.stage import prepare
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.store.tokens import token_now
from tests.benchmarks.rclone import Rclone, rclone_server
from tests.benchmarks.table import Row, Target, side_by_side, timed
from tests.launchers.steps import open_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_mlpipe.store.digests import Content
    from tests.benchmarks.table import Measure

pytestmark = pytest.mark.benchmark

FINGERPRINT = "ab" * 32
SHAPES = {"5,000 files of 4 KB": (5000, 4096), "2 files of 512 MB": (2, 512 << 20)}
_BLOCK = 64 << 20


@pytest.fixture
def rclone(room: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rclone]:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    with rclone_server() as rclone:
        yield rclone


@pytest.mark.parametrize("shape", SHAPES)
def test_staging(shape: str, rclone: Rclone, room: Path, show: Callable[..., None]) -> None:
    source, store = room / "source", Store.open(rclone.url("store"), rclone.options)
    write(source, *SHAPES[shape])
    content = publish(store, FINGERPRINT, "kept", "data", source)
    rclone.upload(source, "kept")
    numbers = map(str, itertools.count())

    def out(action: Callable[[str], object]) -> Measure:
        def measure() -> float:
            number = next(numbers)
            seconds = timed(lambda: action(number))()
            store.remove(layout.outputs(FINGERPRINT, number))
            shutil.rmtree(rclone.folder / number, ignore_errors=True)
            return seconds

        return measure

    def into(action: Callable[[Path], object]) -> Measure:
        def measure() -> float:
            target = room / next(numbers)
            seconds = timed(lambda: action(target))()
            shutil.rmtree(target)
            return seconds

        return measure

    sent = side_by_side(
        {
            "ours": out(lambda number: publish(store, FINGERPRINT, number, "data", source)),
            "rclone": out(lambda number: rclone.upload(source, number)),
        }
    )
    show(Row(f"stage out {shape}", sent["ours"], "rclone copy", sent["rclone"], Target("within", 1.0)))
    spec = consumer(store, content)
    brought = side_by_side(
        {
            "ours": into(lambda target: prepare(store, spec, target, open_uri, token_now)),
            "rclone": into(lambda target: rclone.download("kept", target)),
        }
    )
    show(Row(f"stage in {shape}", brought["ours"], "rclone copy", brought["rclone"], Target("within", 1.0)))


def consumer(store: Store, content: Content) -> StepSpec:
    """Return a step that reads what an earlier one has published."""
    bound = InputSpec(uri=store.uri(layout.output(FINGERPRINT, "kept", "data")), content=content)
    return StepSpec("p", "s", "command", (("true",),), inputs={"data": bound})


def write(folder: Path, count: int, size: int) -> None:
    """Write files that no two of which are alike, a hundred to a folder."""
    for number in range(count):
        path = folder / f"{number // 100:03}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for _ in range(max(1, size // _BLOCK)):
                file.write(os.urandom(min(size, _BLOCK)))
