from __future__ import annotations

import multiprocessing
import os
import subprocess
from dataclasses import replace

import pytest

from airflow_mlpipe.store.owner import Owner

HERE = Owner.here("p", "r", "s", "dag/run/task/-1", 2)


def test_this_process_lives():
    assert not HERE.is_dead()
    assert HERE.process.startswith(f"{os.getpid()}/")


def test_a_process_that_ended_is_dead():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        child = pool.apply(Owner.here, ("p", "r", "s"))
    assert child.is_dead()


def test_a_process_that_was_not_reaped_is_dead():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    _, start, namespace = HERE.process.split("/")
    assert replace(HERE, process=f"{child.pid}/{start}/{namespace}").is_dead()
    child.wait()


def test_a_number_that_was_given_again_is_not_the_holder():
    pid, start, namespace = HERE.process.split("/")
    assert replace(HERE, process=f"{pid}/{int(start) + 1}/{namespace}").is_dead()


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"host": "other"},
        {"boot": "other"},
        {"process": "999999999/1/pid:[1]"},
        {"process": ""},
        {"boot": "", "host": ""},
    ],
)
def test_nobody_is_judged_dead_from_elsewhere(elsewhere):
    _, start, namespace = HERE.process.split("/")
    gone = replace(HERE, process=f"999999999/{start}/{namespace}")
    assert gone.is_dead()
    assert not replace(gone, **elsewhere).is_dead()


def test_only_a_later_try_of_the_same_task_instance_supersedes():
    assert HERE.is_superseded_by(replace(HERE, try_number=3))
    assert not HERE.is_superseded_by(HERE)
    assert not HERE.is_superseded_by(replace(HERE, try_number=1))
    assert not HERE.is_superseded_by(replace(HERE, try_number=3, task_instance="dag/run/other/-1"))
    nobody = replace(HERE, task_instance=None)
    assert not nobody.is_superseded_by(replace(nobody, try_number=3))
