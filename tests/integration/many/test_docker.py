"""Ranks in a container: all of them in one, started by what the image has."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import DistributionSpec, EnvironmentSpec, StepSpec, to_json
from airflow_mlpipe.store.store import Store
from tests.engine import BUSYBOX
from tests.integration.many.image import MOUNTS, make
from tests.integration.many.test_mpi import BOTH, MODEL, WRITES, script
from tests.integration.many.test_torch import GLOO
from tests.launchers.docker.bench import DockerBench
from tests.many import PYTHON, TORCH_VARIABLES
from tests.runtime.steps import eventually

pytestmark = pytest.mark.docker
MPI, TORCH = pytest.mark.mpi, pytest.mark.torch


@dataclass
class ManyBench(DockerBench):
    """Launches scripts as steps of many processes in a container that sees this machine's programs."""

    image: str = ""

    def many(self, script: str, kind: str, processes: int, *, each=False, variables=None, **fields) -> StepSpec:
        given = DistributionSpec(kind, processes=processes, outputs="each" if each else "first")
        environment = EnvironmentSpec(interpreter=PYTHON, variables=variables or {})
        target = {"mounts": MOUNTS, **fields.pop("target", {})}
        return self.spec(script, image=self.image, distribution=given, environment=environment, target=target, **fields)

    def mpi(self, script: str, mpi: str, **fields) -> StepSpec:
        """Return a step whose container has one of the MPIs as ``mpirun``."""
        return self.many(script, "mpi", 4, variables={"PATH": f"/opt/{mpi}:/usr/bin:/bin"}, **fields)


@pytest.fixture
def bench(engine, tmp_path, monkeypatch):
    """A bench on the engine of the session, at which nothing is left afterwards."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    yield ManyBench(tmp_path, Store.open(str(tmp_path / "store")), "", engine=engine, image=make(engine))
    assert eventually(lambda: not engine.containers())


def failure(bench, spec) -> str:
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(spec)
    return str(caught.value).splitlines()[0]


@MPI
@BOTH
@pytest.mark.parametrize(("staging", "user"), [("mount", "0:0"), ("mount", "1234:55"), ("copy", "1234:55")])
def test_four_ranks_in_a_container(bench, mpi, staging, user):
    body = "total_of_all = total(rank + 1)\n" + WRITES + "print('rank', rank)\n"
    spec = bench.mpi(script(mpi, body), mpi, outputs=MODEL, target={"staging": staging, "user": user})
    result = bench.launch(spec)
    assert bench.store.read(result.outputs["model"].path) == b"10"
    assert sorted(bench.logged) == [f"[{rank}] rank {rank}" for rank in range(4)]


@MPI
def test_each_rank_in_a_container_has_outputs_of_its_own(bench):
    body = "path = os.environ['MLPIPE_OUTPUT_MODEL']\nopen(path, 'w').write(str(rank))\ntotal(rank)"
    spec = bench.mpi(script("openmpi", body), "openmpi", outputs=MODEL, each=True, target={"user": "1234:55"})
    path = bench.launch(spec).outputs["model"].path
    assert [bench.store.read(f"{path}/{rank}") for rank in range(4)] == [b"0", b"1", b"2", b"3"]


@MPI
@BOTH
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("sys.exit(3)", "rank 1 of 4 exited with code 3 (the others were ended)"),
        ("raise ValueError('disagrees')", "rank 1 of 4 exited with code 1 (the others were ended)"),
        ("os.kill(os.getpid(), 9)", "rank 1 of 4 was ended by SIGKILL (the others were ended)"),
    ],
)
def test_a_rank_that_fails_in_a_container_is_named(bench, mpi, how, said):
    body = f"if rank == 1:\n    os.environ['NO_FINALIZE'] = '1'\n    {how}\ntotal(rank)\n"
    assert said in failure(bench, bench.mpi(script(mpi, body), mpi))


@MPI
def test_a_secret_is_hidden_in_what_many_ranks_print_in_a_container(bench):
    body = "sys.stdout.write(('x' * 50 + os.environ['TOKEN'] + '\\n') * 200)\ntotal(rank)\n"
    bench.launch(bench.mpi(script("openmpi", body), "openmpi"), secrets={"TOKEN": "s3cr3t-" * 6})
    assert set(bench.logged) == {f"[{rank}] {'x' * 50}***" for rank in range(4)}


def test_an_image_without_mpirun_is_told_so(bench):
    spec = replace(bench.shell("true", BUSYBOX), distribution=DistributionSpec("mpi", processes=2))
    assert "this step needs mpirun: install openmpi-bin or mpich on the worker, or in the image" in failure(bench, spec)


@MPI
def test_a_worker_that_is_killed_leaves_no_container_with_ranks_that_hang(bench, engine):
    path = bench.root / "spec.json"
    body = "print('begun', flush=True)\ntime.sleep(300 if rank == 1 else 0)\ntotal(rank)\n"
    path.write_bytes(to_json(bench.mpi(script("openmpi", body), "openmpi")))
    command = [sys.executable, "-m", "tests.integration.docker.worker", bench.store.url, str(path), "claim"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    while "] begun" not in (line := process.stdout.readline()):
        assert line, process.wait()
    assert len(engine.containers()) == 1
    process.kill()
    process.communicate()
    assert eventually(lambda: not engine.containers(), 20)


@TORCH
@pytest.mark.parametrize(("how", "said"), [("pass", None), ("sys.exit(3)", "rank 1 of 2 exited with code 3")])
def test_torchrun_in_a_container(bench, how, said):
    body = f"if rank == 1: {how}\nif total(1) == 2 and rank == 0: open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w').write('2')\n"
    spec = bench.many(GLOO + body, "torchrun", 2, variables=TORCH_VARIABLES, outputs=MODEL)
    if said is None:
        assert bench.store.read(bench.launch(spec).outputs["model"].path) == b"2"
    else:
        assert said in failure(bench, spec)


def test_workers_of_tensorflow_in_a_container(bench):
    body = "import os, sys\nprint(os.environ['TF_CONFIG'].count('127.0.0.1'))\nsys.exit(int(os.environ['MLPIPE_RANK']) * 2)\n"
    spec = bench.many(body, "tensorflow", 2)
    assert "rank 1 of 2 exited with code 2 (the others were ended)" in failure(bench, spec)
    assert "[0] 2" in bench.logged
