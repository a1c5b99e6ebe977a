"""Triggerers and schedulers that are killed while one step waits for another."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integration.faults.components import LooseAirflow
from tests.integration.harness import FAST, Harness
from tests.integration.scheduler.test_claims import both, pids
from tests.integration.scheduler.test_pipelines import gone, parent
from tests.reuse.children import until

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(600)]

NOTICED_SOON = {
    "triggerer.job_heartbeat_sec": "1",
    "triggerer.triggerer_health_check_threshold": "6",
    "scheduler.scheduler_health_check_threshold": "10",
    "scheduler.orphaned_tasks_check_interval": "5",
}
WRITES = "echo made > ${{ outputs.out }}"


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    folder = tmp_path_factory.mktemp("airflow")
    dags = folder / "dags"
    dags.mkdir()
    with LooseAirflow(folder / "home", dags, settings=FAST | NOTICED_SOON) as local:
        yield local


@pytest.fixture
def airflow(loose):
    return Harness(loose)


def test_rule_8_a_wait_goes_on_in_another_triggerer_when_its_own_is_killed(airflow, loose, tmp_path):
    first, second = both(airflow, tmp_path, "triggerer", WRITES)
    loose.begin("triggerer", "another")
    loose.kill("triggerer", with_children=True)
    (tmp_path / "go").touch()
    assert airflow.wait("triggerer_first", first) == "success"
    assert airflow.wait("triggerer_second", second, 120) == "success"
    assert len(pids(tmp_path)) == 1
    log = airflow.log("triggerer_second", second, "slow")
    assert f"waited: triggerer_first / {first} / slow computed it in the meantime" in log


def test_rule_8_a_holder_that_dies_is_noticed_by_the_triggerer_that_took_a_wait_over(airflow, loose, tmp_path):
    first, second = both(airflow, tmp_path, "orphaned", WRITES)
    name = next(name for name in loose.loose if name != "scheduler")
    loose.begin("triggerer", "a third")
    loose.kill(name, with_children=True)
    (command,) = pids(tmp_path)
    os.kill(parent(parent(command)), signal.SIGKILL)
    until(lambda: gone(command), "the command outlived its worker")
    airflow.until(lambda: len(pids(tmp_path)) == 2, 120, "nobody took over")
    (tmp_path / "go").touch()
    assert airflow.wait("orphaned_second", second, 120) == "success"
    assert airflow.wait("orphaned_first", first, 120) == "failed"


def test_rule_8_a_wait_and_a_running_step_outlive_a_scheduler_that_is_killed_alone(airflow, loose, tmp_path):
    first, second = both(airflow, tmp_path, "alone", WRITES)
    loose.kill("scheduler", with_children=False)
    loose.begin("scheduler")
    (tmp_path / "go").touch()
    assert airflow.wait("alone_second", second, 180) == "success"
    assert airflow.wait("alone_first", first, 180) == "success"
    assert len(pids(tmp_path)) == 1
    assert f"waited: alone_first / {first} / slow computed it" in airflow.log("alone_second", second, "slow")


def test_rule_8_a_wait_ends_right_when_the_scheduler_is_killed_with_all_its_tasks(airflow, loose, tmp_path):
    first, second = both(airflow, tmp_path, "whole", WRITES)
    (command,) = pids(tmp_path)
    loose.kill("scheduler", with_children=True)
    until(lambda: gone(command), "the command outlived its worker")
    loose.begin("scheduler")
    airflow.until(lambda: len(pids(tmp_path)) == 2, 120, "nobody took over")
    (tmp_path / "go").touch()
    for name, run in (("first", first), ("second", second)):
        assert airflow.wait(f"whole_{name}", run, 180) == "success"
    assert len(pids(tmp_path)) == 2
    outputs = [
        airflow.xcom(f"whole_{name}", run, "slow", "out") for name, run in (("first", first), ("second", second))
    ]
    assert outputs[0] == outputs[1]
