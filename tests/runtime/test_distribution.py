from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.distribution import RANK, command_line, distributed, of_rank
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import DistributionSpec, EnvironmentSpec, OutputSpec, Reference, StepSpec

PYTHON = "/env/bin/python"
SPEC = StepSpec(
    "p",
    "s",
    "estimator",
    command=((Reference("interpreter"),), ("train.py",), ("--model=", Reference("output", "model"))),
    outputs={"model": OutputSpec()},
    environment=EnvironmentSpec(interpreter=PYTHON),
)
SCRIPT = [PYTHON, "train.py", "--model=m"]
PROGRAM = ["./train", "--fast"]


def spec_of(kind, **fields):
    return replace(SPEC, distribution=DistributionSpec(kind, **{"processes": 4, **fields}))


def places(spec, root):
    return StepDirectory(root).places(spec)


def test_a_step_of_one_process_is_its_command(tmp_path):
    assert command_line(SPEC, places(SPEC, tmp_path)) == [PYTHON, "train.py", f"--model={tmp_path}/outputs/model"]


def test_torchrun_is_the_module_of_the_steps_python():
    made = distributed(SCRIPT, spec_of("torchrun", options=("--max_restarts=1",)))
    start = [PYTHON, "-m", "torch.distributed.run", "--nnodes=1", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
    assert made == [
        *start,
        "--nproc_per_node=4",
        "--monitor_interval=0.1",
        "--max_restarts=1",
        "-m",
        "mlpipe_rank",
        "train.py",
        "--model=m",
    ]


def test_what_is_no_script_is_started_by_torchrun_as_it_is():
    assert distributed(PROGRAM, spec_of("torchrun"))[-3:] == ["--no_python", *PROGRAM]
    assert distributed([PYTHON, "-c", "1"], spec_of("torchrun"))[-4:] == ["--no_python", PYTHON, "-c", "1"]


def test_a_module_is_run_by_our_own_too():
    assert distributed([PYTHON, "-m", "train"], spec_of("mpi"))[-5:] == [PYTHON, "-m", "mlpipe_rank", "-m", "train"]


def test_mpirun_gets_the_number_and_the_options_by_a_shell():
    made = distributed(SCRIPT, spec_of("mpi", options=("--hostfile", "hosts")))
    assert made[:2] == ["sh", "-c"]
    assert made[3:9] == ["mpirun", "4", "--hostfile", "hosts", "sh", "-c"]
    assert made[10:] == ["rank", PYTHON, "-m", "mlpipe_rank", "train.py", "--model=m"]


def test_tensorflow_workers_are_started_by_our_module():
    assert distributed(PROGRAM, spec_of("tensorflow")) == [PYTHON, "-m", "mlpipe_workers", "4", "--", *PROGRAM]


@pytest.mark.parametrize("spec", [SPEC, spec_of("mpi"), spec_of("torchrun")])
def test_a_step_without_a_command_is_refused_however_many_processes_it_shall_be(spec, tmp_path):
    with pytest.raises(CommandFailedError, match="the step has no command; give it one"):
        command_line(replace(spec, command=()), places(spec, tmp_path))


def test_more_nodes_than_one_need_another_target(tmp_path):
    spec = spec_of("torchrun", nodes=2)
    with pytest.raises(CommandFailedError, match=r"step 's' wants 2 nodes.* use a kubernetes target"):
        command_line(spec, places(spec, tmp_path))


def test_an_unknown_kind_is_refused():
    with pytest.raises(CommandFailedError, match="a distribution of kind 'ray' is unknown"):
        distributed(SCRIPT, spec_of("ray"))


VARIABLES = {"torchrun": "RANK", "mpi": "OMPI_COMM_WORLD_RANK", "tensorflow": "MLPIPE_RANK"}


@pytest.mark.parametrize(("kind", "variable"), VARIABLES.items())
def test_a_rank_with_outputs_of_its_own_finds_them_in_its_variables_and_arguments(tmp_path, kind, variable):
    spec = replace(spec_of(kind, outputs="each"), outputs={"model": OutputSpec(), "model_2": OutputSpec()})
    root = tmp_path / "a b"
    where = {name: f"{root}/outputs/{name}" for name in spec.outputs}
    shown = ["$MLPIPE_OUTPUT_MODEL", "$AZUREML_DATAREFERENCE_model", "$MLPIPE_OUTPUT_MODEL_2", "$1", "$2", "$3"]
    script = 'for word in "' + '" "'.join(shown) + '"; do echo "$word"; done'
    argv = ["sh", "-c", script, "x", f"--m={where['model']}/{RANK}:{RANK}", "it's $HOME", f"{where['model_2']}/{RANK}"]
    given = {f"MLPIPE_OUTPUT_{name.upper()}": place for name, place in where.items()}
    done = subprocess.run(
        of_rank(argv, spec), env={**os.environ, **given, variable: "3"}, capture_output=True, text=True, check=True
    )
    model, model_2 = (f"{place}/3" for place in where.values())
    assert done.stdout.splitlines() == [model, model, model_2, f"--m={model}:3", "it's $HOME", model_2]
    assert sorted(path.name for path in (root / "outputs").iterdir()) == ["model", "model_2"]


def test_each_rank_gets_paths_with_a_place_for_its_number_in_the_arguments(tmp_path):
    spec = spec_of("tensorflow", outputs="each")
    assert command_line(spec, places(spec, tmp_path))[-1] == f"--model={tmp_path}/outputs/model/{RANK}"
