"""What operators are tried in: a real store in a temporary folder, and an Airflow that is kept in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.operators import here
from airflow_mlpipe.operators.life import Life
from airflow_mlpipe.planning.plan import Task
from airflow_mlpipe.resolving.decide import History, StoreLookUp
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import OutputRef, OutputSpec, StepResult, StepSpec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.log import Owner
from airflow_mlpipe.store.outputs import publish
from tests.operators.fake_airflow import Airflow

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class World:
    """One store, and the runs that use it."""

    root: Path
    launched: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def site(self) -> Site:
        return Site.open(Workspace(), default_store=self.root / "store")

    def life(self, run: str = "r1", *, launch: Any = None, step: str = "train", **owner: Any) -> Life:
        site = self.site()
        look_up = StoreLookUp(site, "p", run, lambda _: "python")
        history = History.read(site, "p", [step], {})
        return Life(
            site,
            look_up,
            history,
            Owner.here("p", run, step, **owner),
            launch or self.writes("model"),
            self.said.append,
        )

    def writes(self, text: str, **result: Any) -> Any:
        """Return a launcher whose step writes a text as its output `model`."""

        def launch(spec: StepSpec, fingerprint: str, claim: str) -> StepResult:
            self.launched.append(spec.step)
            source = self.root / f"{claim}.out"
            source.write_text(text)
            content = publish(self.site().store, fingerprint, claim, "model", source)
            outputs = {"model": OutputRef(layout.output(fingerprint, claim, "model"), content)}
            return StepResult(exit_code=0, outputs=outputs, **result)

        return launch

    def published(self, outcome: Any) -> Path:
        return self.root / "store" / outcome.outputs["model"].path


@pytest.fixture(autouse=True)
def nobody_elses_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "MLPIPE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    here._workspace.cache_clear()


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """Runs tasks; the outputs are kept in `store` of the temporary folder."""
    monkeypatch.setenv("MLPIPE_STORE", str(tmp_path / "store"))
    fake = Airflow()
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", fake, raising=False)
    return fake


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def task(c: float = 1.0, **switches: Any) -> Task:
    """Return a task that has all it needs."""
    spec = StepSpec("p", "train", "command", (("train",),), parameters={"c": c}, outputs={"model": OutputSpec()})
    return Task(spec, **switches)
