"""Ranks that a real torchrun starts, as steps of this machine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import OutputSpec, Reference
from tests.runtime.steps import alive, eventually, pids, pids_in

pytestmark = pytest.mark.torch

MODEL = {"model": OutputSpec()}
GLOO = """
import os, sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
def total(value):
    tensor = torch.tensor([float(value)])
    dist.all_reduce(tensor)
    return tensor.item()
"""


def test_two_processes_add_up_their_numbers_and_rank_0_writes_the_output_and_the_metrics(bench):
    script = GLOO + "from mlpipe import Run\nrun = Run.get_context()\nfound = total(rank + 1)\n"
    script += "if rank == 0: torch.save(found, os.environ['MLPIPE_OUTPUT_MODEL'])\nrun.log('total', found * (rank + 1))"
    result = bench.launch(bench.torch(script, outputs=MODEL))
    assert result.metrics == {"total": 3.0}
    assert result.outputs["model"].content.kind == "file"


def test_steps_of_torchrun_run_side_by_side_and_the_end_of_one_is_not_that_of_another(bench, tmp_path):
    seen = tmp_path / "seen"
    first = GLOO + f"total(1)\nwhile not os.path.exists({str(seen)!r}): time.sleep(0.01)\n"
    second = GLOO + f"total(1)\nif rank == 0: open({str(seen)!r}, 'w')\ntime.sleep(3)\ntotal(1)\nprint('done')\n"
    specs = {"first": bench.torch(first), "second": bench.torch(second)}
    with ThreadPoolExecutor() as pool:
        results = [pool.submit(bench.launch, spec, claim) for claim, spec in specs.items()]
    assert [result.result().error for result in results] == [None, None]


def test_each_rank_writes_into_a_folder_of_its_own(bench):
    script = "import os, sys\nassert sys.argv[1] == os.environ['MLPIPE_OUTPUT_MODEL']\n"
    script += "open(sys.argv[1], 'w').write(os.environ['RANK'])"
    spec = bench.torch(script, outputs=MODEL, each=True)
    result = bench.launch(replace(spec, command=(*spec.command, (Reference("output", "model"),))))
    path = result.outputs["model"].path
    assert [bench.store.read(f"{path}/{rank}") for rank in range(2)] == [b"0", b"1"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("sys.exit(3)", "rank 1 of 2 exited with code 3"),
        ("raise ValueError('disagrees')", "rank 1 of 2 exited with code 1"),
        ("os.kill(os.getpid(), 9)", "rank 1 of 2 was ended by SIGKILL"),
    ],
)
def test_the_rank_that_fails_first_is_named_and_not_the_one_that_waited_for_it(bench, how, said):
    with pytest.raises(CommandFailedError) as caught:
        bench.launch(bench.torch(GLOO + f"if rank == 1: {how}\ntotal(rank)\n"))
    assert f"{said} (the others were ended)" in str(caught.value).splitlines()[0]
    assert pids_in(bench.root) == []


def test_kill_ends_ranks_that_hang(bench):
    script = GLOO + "open('pids', 'a').write(f'{os.getpid()}\\n')\nif rank == 1: time.sleep(300)\ntotal(rank)\n"
    launcher = bench.launcher()
    thread = bench.failing(bench.torch(script), launcher)
    work = bench.store.local_root / "work"
    assert eventually(lambda: list(work.glob("*/code")), 30)
    (code,) = work.glob("*/code")
    assert eventually((code / "pids").exists, 60)
    processes = pids(code / "pids", 2)
    launcher.kill()
    thread.join(timeout=60)
    assert not [process for process in processes if alive(process)]
    assert pids_in(bench.root) == []


def test_a_command_that_is_no_script_is_started_too(bench):
    spec = replace(bench.torch(""), command=(("sh",), ("-c",), ('echo "rank $RANK of $WORLD_SIZE"',)))
    bench.launch(spec)
    assert {line for line in bench.logged if "rank" in line} == {"[0] rank 0 of 2", "[1] rank 1 of 2"}


def test_a_secret_is_hidden_in_what_torchrun_tees(bench):
    script = "import os, sys\nsys.stdout.write(('x' * 50 + os.environ['TOKEN'] + '\\n') * 400)\n"
    bench.launch(bench.torch(script), secrets={"TOKEN": "s3cr3t-" * 6})
    lines = [line for line in bench.logged if "x" * 50 in line]
    assert set(lines) == {f"[{rank}] {'x' * 50}***" for rank in range(2)}
    assert len(lines) == 800
