"""What a step in a container costs beside its container: against a bare DockerOperator, same image, same command."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk.bases.operator import ExecutorSafeguard

from airflow_mlpipe.runtime.protocol import OutputSpec, Reference
from airflow_mlpipe.store.store import Store
from tests.benchmarks.table import Row, Target, side_by_side, timed
from tests.engine import STATIC
from tests.launchers.docker.bench import DockerBench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine import Engine

pytestmark = [pytest.mark.benchmark, pytest.mark.docker]

STAGING_SECONDS = 2.0
FILES, SIZE = 200, 100_000


def test_a_step_in_a_container(
    room: Path, show: Callable[..., None], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    bench = DockerBench(room, Store.open(str(room / "store")), "", engine=engine)
    folder = room / "data"
    folder.mkdir()
    for number in range(FILES):
        (folder / str(number)).write_bytes(bytes([number % 256]) * SIZE)
    bound = bench.stored(folder)
    claims = map(str, itertools.count())

    def bare(*command: str) -> None:
        operator = DockerOperator(
            task_id="operator",
            image=STATIC,
            command=list(command),
            entrypoint=["/busybox"],
            docker_url=engine.host,
            auto_remove="force",
            mount_tmp_dir=False,
        )
        operator.execute({}, DockerOperator__sentinel=ExecutorSafeguard.sentinel_value)

    def step(staging: str, seconds: str) -> None:
        spec = bench.static("sleep", seconds, target={"staging": staging})
        bench.launch(spec, claim=next(claims))

    def copy(staging: str) -> None:
        spec = bench.static(
            "cp", "-r", inputs={"data": bound}, outputs={"model": OutputSpec()}, target={"staging": staging}
        )
        spec = replace(spec, command=(*spec.command, (Reference("input", "data"),), (Reference("output", "model"),)))
        bench.launch(spec, claim=next(claims))

    bare("true")
    step("auto", "0")
    for seconds in ("0", "5"):
        found = side_by_side(
            {
                "ours": timed(lambda: step("auto", seconds)),  # noqa: B023 -- called before the next round
                "bare": timed(lambda: bare("sleep", seconds)),  # noqa: B023 -- as above
                "copied": timed(lambda: step("copy", seconds)),  # noqa: B023 -- as above
            }
        )
        within = Target("under", round(1.25 * found["bare"].median + STAGING_SECONDS, 2))
        show(
            Row(f"a step of {seconds} s in a container", found["ours"], "a bare DockerOperator", found["bare"], within),
            Row(
                "  its directory copied to the engine", found["copied"], "a bare DockerOperator", found["bare"], within
            ),
        )
    data = side_by_side({"mounted": timed(lambda: copy("auto")), "copied": timed(lambda: copy("copy"))})
    megabytes = FILES * SIZE // 1_000_000
    show(
        Row(f"{megabytes} MB in and out in {FILES} files, mounted", data["mounted"]),
        Row("  copied through the engine", data["copied"]),
    )
