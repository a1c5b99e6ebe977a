"""What a step of many processes costs beside the bare ``mpirun`` and ``torchrun`` with the same script."""

from __future__ import annotations

import itertools
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.store.store import Store
from tests.benchmarks.table import Row, side_by_side, timed
from tests.integration.many.conftest import ManyBench
from tests.many import PYTHON, TORCH_VARIABLES, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.runtime.protocol import StepSpec

pytestmark = pytest.mark.benchmark

ALLREDUCE = """
import numpy as np
from mpi4py import MPI
numbers = np.random.default_rng(MPI.COMM_WORLD.rank).random(1_000_000)
for _ in range({rounds}):
    MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, numbers)
    numbers /= MPI.COMM_WORLD.size
"""
TRAIN = """
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
torch.manual_seed(dist.get_rank())
model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range({rounds}):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(torch.rand(128, 64)), torch.randint(10, (128,))).backward()
    optimizer.step()
"""


@pytest.fixture
def bench(room: Path, monkeypatch: pytest.MonkeyPatch) -> ManyBench:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    return ManyBench(room, Store.open(str(room / "store")), PYTHON)


def measure(bench: ManyBench, spec: StepSpec, script: str, command: list[str], variables: dict[str, str]) -> dict:
    """Measure a step and the bare command, side by side."""
    (bench.root / "main.py").write_text(script)
    claims = map(str, itertools.count())
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **variables}

    def bare() -> None:
        subprocess.run([*command, "main.py"], cwd=bench.root, env=environment, check=True, capture_output=True)

    bare()
    return side_by_side({"step": timed(lambda: bench.launch(spec, claim=next(claims))), "bare": timed(bare)})


@pytest.mark.parametrize("rounds", [1, 40])
@pytest.mark.parametrize("mpi", ["openmpi"])
def test_mpirun(bench: ManyBench, show: Callable[..., None], mpi: str, rounds: int) -> None:
    require("mpi")
    script = ALLREDUCE.format(rounds=rounds)
    command = [f"mpirun.{mpi}", "-n", "4", "--oversubscribe", "--bind-to", "none", PYTHON]
    found = measure(bench, bench.mpi(script, mpi), script, command, {})
    show(Row(f"4 ranks of {mpi}, {rounds} sums of 8 MB, as a step", found["step"], "bare mpirun", found["bare"]))


@pytest.mark.parametrize("rounds", [1, 400])
def test_torchrun(bench: ManyBench, show: Callable[..., None], rounds: int) -> None:
    require("torch")
    script = TRAIN.format(rounds=rounds)
    command = [
        PYTHON,
        "-m",
        "torch.distributed.run",
        "--rdzv_backend=c10d",
        "--rdzv_endpoint=localhost:0",
        "--nproc_per_node=2",
    ]
    found = measure(bench, bench.torch(script), script, command, TORCH_VARIABLES)
    show(Row(f"2 processes of torchrun, {rounds} batches, as a step", found["step"], "bare torchrun", found["bare"]))
