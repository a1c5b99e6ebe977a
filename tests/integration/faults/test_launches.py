"""Steps whose launcher leaves the waiting to the triggerer: their claims are held, whatever happens to the components."""

from __future__ import annotations

import shutil

import pytest

from airflow_mlpipe.store.beat import PATIENCE, patience_of
from airflow_mlpipe.store.entries import Log
from airflow_mlpipe.store.store import Store
from tests.integration.faults import detached
from tests.integration.faults.components import LooseAirflow
from tests.integration.faults.test_components import NOTICED_SOON
from tests.integration.harness import FAST, Harness

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(600)]

LEFT = """
from airflow.sdk import DAG
from airflow_mlpipe.operators import CommandOperator
from detached import Detached

class DetachedOperator(CommandOperator):
    def _launcher(self, site, spec):
        return Detached(site.store, {folder!r})

for name in ("first", "second"):
    with DAG(f"{prefix}_{{name}}", schedule=None):
        DetachedOperator(task_id="slow", command="echo {prefix}", outputs=["out"])
"""
DEFERRED = {"slow": "deferred"}


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    folder = tmp_path_factory.mktemp("airflow")
    for name in ("dags", "home/plugins"):
        (folder / name).mkdir(parents=True)
    for file in (detached.__file__, detached.WORK):
        shutil.copy(file, folder / "home" / "plugins")
    with LooseAirflow(folder / "home", folder / "dags", settings=FAST | NOTICED_SOON) as local:
        yield local


@pytest.fixture
def airflow(loose):
    return Harness(loose)


class Step:
    """The step of two DAGs: what it has run, and what the store knows of it."""

    def __init__(self, airflow, prefix, folder):
        self.airflow, self.prefix, self.folder = airflow, prefix, folder
        self.store = Store.open(str(airflow.airflow.home / "mlpipe"))
        self.known = self.logs()
        airflow.write_dag(prefix, LEFT.format(prefix=prefix, folder=str(folder)))

    def logs(self):
        return {path.split("/")[1] for path in self.store.sizes("log")}

    def log(self):
        (fingerprint,) = self.logs() - self.known
        return Log.read(self.store, fingerprint)

    def deferred(self, name):
        run = self.airflow.trigger(f"{self.prefix}_{name}")
        self.airflow.until(
            lambda: self.airflow.task_states(f"{self.prefix}_{name}", run) == DEFERRED,
            120,
            lambda: f"{name} does not wait: {self.airflow.log(f'{self.prefix}_{name}', run, 'slow')}",
        )
        return run

    def beat(self):
        log = self.log()
        return self.store.read(f"beat/{log.fingerprint}/{log.holder.id}")

    def ran(self):
        return (self.folder / "ran").read_text().split()


def test_rule_8_what_goes_on_without_a_worker_keeps_its_claim_in_another_triggerer_too(airflow, loose, tmp_path):
    step = Step(airflow, "left", tmp_path)
    first = step.deferred("first")
    airflow.until((tmp_path / "ran").exists, 60, "what was launched has not begun")
    assert patience_of(step.beat()) == PATIENCE
    holder = step.log().holder
    assert (holder.owner.run, holder.owner.process) == (first, "")
    second = step.deferred("second")
    said = f"gives its slot back while it waits for left_first / {first} / slow"
    airflow.until(lambda: said in airflow.log("left_second", second, "slow"), 30, "it does not say whom it waits for")
    loose.kill("triggerer", with_children=True)
    last = step.beat()
    loose.begin("triggerer", "another")
    airflow.until(lambda: step.beat() != last, 120, "the other triggerer gives no sign of life")
    assert step.log().holder == holder
    (tmp_path / "go").touch()
    assert airflow.wait("left_first", first, 120) == "success"
    assert airflow.wait("left_second", second, 120) == "success"
    assert len(step.ran()) == 1
    assert "ran: " in airflow.log("left_first", first, "slow")
    assert f"waited: left_first / {first} / slow computed it" in airflow.log("left_second", second, "slow")
    assert airflow.xcom("left_first", first, "slow", "out") == airflow.xcom("left_second", second, "slow", "out")
    assert step.log().holder is None
    assert len(step.log().records) == 1


def test_rule_8_who_ends_a_task_ends_what_it_has_left_and_frees_its_claim(airflow, tmp_path):
    step = Step(airflow, "ended", tmp_path)
    first = step.deferred("first")
    airflow.until((tmp_path / "waits").exists, 60, "no triggerer waits")  # else Airflow has nobody to tell
    airflow.set_state("ended_first", first, "slow", "failed")
    airflow.until((tmp_path / "killed").exists, 60, "what was launched was not ended")
    airflow.until(lambda: step.log().holder is None, 60, "the claim was not given back")
    assert step.store.names(f"beat/{step.log().fingerprint}") == []
    second = step.deferred("second")
    airflow.until(lambda: len(step.ran()) == 2, 60, "what was launched anew has not begun")
    (tmp_path / "go").touch()
    assert airflow.wait("ended_second", second, 120) == "success"
