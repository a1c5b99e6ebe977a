from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_mlpipe.runtime.protocol import DistributionSpec
from airflow_mlpipe.runtime.ranks import explained

RECORDED = Path(__file__).with_name("recorded")
"""The last lines of real runs: Open MPI 4.1.4, MPICH 4.0.2, torchrun of torch 1.13.1, and our own starter."""


def failing_rank(printed, kind):
    """Return which rank failed first and how; None if nobody says it."""
    said = explained("it failed", DistributionSpec(kind, processes=4), printed)
    match = re.fullmatch(r"it failed: (rank \d+) of 4 (.+) \(the others were ended\)", said)
    return match and f"{match[1]} {match[2]}"


def lines(name):
    return (RECORDED / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("openmpi_exit", "mpi", "rank 1 exited with code 3"),
        ("openmpi_raise", "mpi", "rank 3 exited with code 1"),
        ("openmpi_kill", "mpi", "rank 2 was ended by SIGKILL"),
        ("openmpi_abort", "mpi", "rank 1 exited with code 5"),
        ("openmpi_program", "mpi", "rank 1 exited with code 7"),
        ("mpich_exit", "mpi", "rank 1 exited with code 3"),
        ("mpich_raise", "mpi", "rank 3 exited with code 1"),
        ("mpich_kill", "mpi", "rank 2 was ended by SIGKILL"),
        ("mpich_abort", "mpi", "rank 1 exited with code 5"),
        ("mpich_program", "mpi", "rank 1 exited with code 7"),
        ("torchrun_exit", "torchrun", "rank 1 exited with code 3"),
        ("torchrun_raise", "torchrun", "rank 1 exited with code 1"),
        ("torchrun_kill", "torchrun", "rank 1 was ended by SIGKILL"),
        ("torchrun_program", "torchrun", "rank 1 exited with code 7"),
        ("workers_exit", "tensorflow", "rank 2 exited with code 3"),
        ("workers_kill", "tensorflow", "rank 2 was ended by SIGKILL"),
    ],
)
def test_the_rank_that_failed_first_is_named_in_real_outputs(name, kind, said):
    assert failing_rank(lines(name), kind) == said


@pytest.mark.parametrize("name", ["openmpi_exit", "openmpi_raise", "torchrun_exit", "torchrun_raise"])
def test_the_summary_of_the_starter_is_enough_where_the_ranks_said_nothing(name):
    summary = [line for line in lines(name) if "mlpipe:" not in line]
    kind = name.partition("_")[0].replace("openmpi", "mpi")
    assert failing_rank(summary, kind)


def test_open_mpi_5_names_processes_otherwise():
    summary = """\
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-node-1-4242@1,3] Exit code:    9
""".splitlines()
    assert failing_rank(summary, "mpi") == "rank 3 exited with code 9"


@pytest.mark.parametrize("kind", ["mpi", "torchrun", "tensorflow"])
def test_nobody_is_named_where_nothing_is_said(kind):
    assert failing_rank(["rank 1 is doing well", "Exit code: 3"], kind) is None
    assert failing_rank([], kind) is None
    assert explained("it failed", DistributionSpec(kind, processes=4), []) == "it failed"


def test_the_error_counts_all_ranks_of_all_nodes():
    given = DistributionSpec("mpi", nodes=2, processes=4)
    said = explained("the command ended with exit code 3", given, lines("openmpi_exit"))
    assert said == ("the command ended with exit code 3: rank 1 of 8 exited with code 3 (the others were ended)")
    alone = explained("it failed", DistributionSpec("mpi"), ["mlpipe: rank 0 ended with exit code 2"])
    assert alone == "it failed: rank 0 of 1 exited with code 2"


def test_what_is_missing_is_said_instead_of_an_exit_code():
    said = explained("the command ended with exit code 127", DistributionSpec("mpi"), lines("no_mpirun"))
    assert said is not None
    assert said.endswith(
        "this step needs mpirun: install openmpi-bin or mpich on the worker, or in the image of the step"
    )
    told = (
        "python: Error while finding module specification for 'torch.distributed.run' "
        "(ModuleNotFoundError: No module named 'torch')"
    )
    assert "has no torch; add it to the requirements" in str(explained("x", DistributionSpec("torchrun"), [told]))


def test_success_and_a_step_of_one_process_are_left_alone():
    assert explained(None, DistributionSpec("mpi"), lines("openmpi_exit")) is None
    assert explained("it failed", None, lines("openmpi_exit")) == "it failed"


def test_a_rank_that_was_killed_is_named_before_one_that_failed_for_want_of_it():
    assert failing_rank(lines("torchrun_kill"), "torchrun") == "rank 1 was ended by SIGKILL"
    assert "mlpipe: rank 0 ended with exit code 1" in lines("torchrun_kill")


def test_a_rank_whose_last_words_are_out_of_sight_failed_before_those_that_are_seen():
    summary = [line for line in lines("torchrun_exit") if "mlpipe:" not in line]
    assert failing_rank(["mlpipe: rank 0 ended with exit code 1", *summary], "torchrun") == "rank 1 exited with code 3"
    both = ["mlpipe: rank 1 ended with exit code 3", "mlpipe: rank 0 ended with exit code 1", *summary]
    assert failing_rank(both, "torchrun") == "rank 1 exited with code 3"
