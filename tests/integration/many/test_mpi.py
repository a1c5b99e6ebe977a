"""Ranks of a real Open MPI and a real MPICH, as steps of this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import OutputSpec, Reference, to_json
from tests.runtime.steps import alive, eventually, pids, pids_in

pytestmark = pytest.mark.mpi

BOTH = pytest.mark.parametrize("mpi", ["openmpi", "mpich"])
MODEL = {"model": OutputSpec()}

# Debian's mpi4py belongs to Open MPI; MPICH is spoken to as its library is.
COMMUNICATION = {
    "openmpi": """
import os, sys, time
from mpi4py import MPI
rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
def total(value):
    return MPI.COMM_WORLD.allreduce(value)
""",
    "mpich": """
import atexit, ctypes, os, sys, time
mpich = ctypes.CDLL("libmpich.so.12")
mpich.MPI_Init(None, None)
COMM_WORLD, INT, SUM = 0x44000000, 0x4C000405, 0x58000003
def ask(function):
    value = ctypes.c_int()
    getattr(mpich, function)(COMM_WORLD, ctypes.byref(value))
    return value.value
rank, size = ask("MPI_Comm_rank"), ask("MPI_Comm_size")
def total(value):
    given, found = ctypes.c_int(value), ctypes.c_int()
    mpich.MPI_Allreduce(ctypes.byref(given), ctypes.byref(found), 1, INT, SUM, COMM_WORLD)
    return found.value
def end():
    if not os.environ.get("NO_FINALIZE"):
        mpich.MPI_Finalize()
""",
}
WRITES = """
if rank == 0:
    with open(os.environ["MLPIPE_OUTPUT_MODEL"], "w") as file:
        file.write(str(total_of_all))
"""


def script(mpi, body):
    """Return a script that speaks MPI."""
    return COMMUNICATION[mpi] + body + ("\nend()\n" if mpi == "mpich" else "")


@BOTH
def test_four_ranks_add_up_their_numbers_and_rank_0_writes_the_output_and_the_metrics(bench, mpi):
    body = "from mlpipe import Run\ntotal_of_all = total(rank + 1)\n" + WRITES
    body += "Run.get_context().log('total', total_of_all * (rank + 1))\nprint('rank', rank, 'of', size, sys.argv)\n"
    result = bench.launch(bench.mpi(script(mpi, body), mpi, outputs=MODEL))
    assert bench.store.read(result.outputs["model"].path) == b"10"
    assert result.metrics == {"total": 10.0}
    assert sorted(bench.logged) == [f"[{rank}] rank {rank} of 4 ['main.py']" for rank in range(4)]


@BOTH
def test_each_rank_writes_into_a_folder_of_its_own(bench, mpi):
    body = """
from pathlib import Path
from mlpipe import Run
run = Run.get_context()
path = run.output("model")
assert run.rank == rank
assert sys.argv[1] == f"--model={path}", sys.argv
assert os.environ["AZUREML_DATAREFERENCE_model"] == str(path)
path.mkdir()
(path / "part").write_text(str(rank))
run.log("loss", rank)
"""
    spec = bench.mpi(script(mpi, body), mpi, outputs=MODEL, each=True)
    spec = replace(spec, command=(*spec.command, ("--model=", Reference("output", "model"))))
    result = bench.launch(spec)
    path = result.outputs["model"].path
    assert {rank: bench.store.read(f"{path}/{rank}/part") for rank in range(4)} == {
        rank: str(rank).encode() for rank in range(4)
    }
    assert result.metrics == {"loss": 0, "loss_rank_1": 1, "loss_rank_2": 2, "loss_rank_3": 3}


def failure(bench, spec) -> str:
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(spec)
    assert pids_in(bench.root) == []
    assert bench.outputs() == {}
    return str(caught.value).splitlines()[0]


@BOTH
def test_a_rank_that_exits_is_named_with_its_code(bench, mpi):
    body = "if rank == 1: os.environ['NO_FINALIZE'] = '1'; sys.exit(3)\ntotal(rank)\n"
    said = failure(bench, bench.mpi(script(mpi, body), mpi))
    assert "rank 1 of 4 exited with code 3 (the others were ended)" in said


@BOTH
def test_a_rank_that_is_killed_is_named_with_the_signal(bench, mpi):
    body = "if rank == 2: os.kill(os.getpid(), 9)\ntotal(rank)\n"
    said = failure(bench, bench.mpi(script(mpi, body), mpi))
    assert "rank 2 of 4 was ended by SIGKILL (the others were ended)" in said


@BOTH
def test_a_rank_that_raises_while_the_others_wait_for_it_ends_them_all(bench, mpi):
    body = "if rank == 3: raise ValueError('disagrees')\ntotal(rank)\n"
    spec = bench.mpi(script(mpi, body), mpi)
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(spec)
    assert "rank 3 of 4 exited with code 1" in str(caught.value)
    assert "[3] ValueError: disagrees" in str(caught.value)
    assert "runpy" not in str(caught.value)
    assert pids_in(bench.root) == []


HANGS = """
import subprocess
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
with open("pids", "a") as file:
    file.write(f"{os.getpid()}\\n{child.pid}\\n")
total(rank)
time.sleep(300 if rank == 1 else 0)
total(rank)
"""


@BOTH
def test_kill_ends_ranks_that_hang_and_what_left_their_session(bench, mpi):
    launcher = bench.launcher()
    thread = bench.failing(bench.mpi(script(mpi, HANGS), mpi), launcher)
    (code,) = wait_for(lambda: list((bench.store.local_root / "work").glob("*/code")))
    processes = pids(code / "pids", 8)
    launcher.kill()
    thread.join(timeout=60)
    assert not [process for process in processes if alive(process)]
    assert pids_in(bench.root) == []


def wait_for(found):
    assert eventually(lambda: bool(found()), 30)
    return found()


@BOTH
def test_a_worker_that_is_killed_leaves_no_rank_behind(bench, mpi):
    path = bench.root / "spec.json"
    path.write_bytes(to_json(bench.mpi(script(mpi, HANGS), mpi)))
    command = [sys.executable, "-m", "tests.integration.many.worker", bench.store.url, str(path), "claim"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    (code,) = wait_for(lambda: list((bench.store.local_root / "work").glob("*/code")))
    processes = pids(code / "pids", 8)
    process.kill()
    process.wait()
    assert eventually(lambda: not [each for each in processes if alive(each)], 20)
    assert eventually(lambda: pids_in(bench.root) == [], 20)


@BOTH
def test_a_secret_is_hidden_although_mpirun_cuts_what_a_rank_prints_into_pieces(bench, mpi):
    body = "sys.stdout.write(('x' * 50 + os.environ['TOKEN'] + '\\n') * 200)\ntotal(rank)\n"
    secret = "s3cr3t-" * 6
    bench.launch(bench.mpi(script(mpi, body), mpi), secrets={"TOKEN": secret})
    assert set(bench.logged) == {f"[{rank}] {'x' * 50}***" for rank in range(4)}
    assert len(bench.logged) == 800


def test_without_mpirun_the_error_says_what_to_install(bench):
    said = failure(bench, bench.mpi("print('no')", "none"))
    assert "this step needs mpirun: install openmpi-bin or mpich on the worker, or in the image of the step" in said


def test_an_mpi4py_of_another_mpi_than_mpirun_is_an_error_and_not_four_lonely_ranks(bench):
    said = failure(bench, bench.mpi(script("openmpi", "total(1)"), "mpich"))
    assert "mpi4py sees 1 of 4 ranks: it uses Open MPI v4" in said


@BOTH
def test_a_program_that_is_no_python_script_is_started_as_it_is(bench, mpi):
    variable = {"openmpi": "OMPI_COMM_WORLD_RANK", "mpich": "PMI_RANK"}[mpi]
    spec = bench.mpi("", mpi, processes=2)
    spec = replace(spec, command=(("sh",), ("-c",), (f'echo "I am ${variable}"; [ "${variable}" = 0 ] || exit 7',)))
    said = failure(bench, spec)
    assert "rank 1 of 2 exited with code 7" in said
    assert "[0] I am 0" in bench.logged


def test_options_reach_mpirun(bench):
    bench.launch(bench.mpi("import os; print(os.environ['WORD'])", "openmpi", 1, options=["-x", "WORD=given"]))
    assert bench.logged == ["[0] given"]


def test_more_ranks_than_cores_run_and_none_is_bound(bench):
    ranks = 2 * (os.cpu_count() or 1) + 1
    body = "import os; print(len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(os.getppid())))"
    bench.launch(bench.mpi(body, "openmpi", ranks))
    assert [re.sub(r"^\[\d+\] ", "", line) for line in bench.logged] == ["True"] * ranks


def test_the_ranks_can_be_stopped_by_a_signal_that_they_handle(bench):
    body = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(0)))\n"
    launcher = bench.launcher()
    thread = bench.failing(bench.mpi("import sys\n" + body + "print('begun')\ntime.sleep(300)", "openmpi", 2), launcher)
    assert eventually(lambda: len(bench.logged) == 2, 30)
    begun = time.monotonic()
    launcher.kill()
    thread.join()
    assert time.monotonic() - begun < 30
    assert sum("saved" in line for line in bench.logged) == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
