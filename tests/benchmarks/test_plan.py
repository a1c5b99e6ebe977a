"""Planning 1,000 steps: cold, when nothing of them has run, and warm, when all of them are to be reused."""

from __future__ import annotations

import itertools
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.definitions import DataReference, Pipeline, PythonScriptStep, StepOutput, Workspace
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import Values, components
from airflow_mlpipe.planning.plan import fill_in
from airflow_mlpipe.resolving.facts import read_inputs
from airflow_mlpipe.resolving.planner import make_plan
from airflow_mlpipe.resolving.records import make_body
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store import layout, outputs
from airflow_mlpipe.store.log import Owner, claim, commit
from tests.benchmarks.shapes import SHAPES, step_name, upstream_of
from tests.benchmarks.table import Row, Target, side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.runtime.protocol import StepSpec

pytestmark = pytest.mark.benchmark

STEPS = 1000


@pytest.mark.parametrize("shape", SHAPES)
def test_plan(shape: str, room: Path, show: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPIPE_CACHE", str(room / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    pipeline = pipeline_of(shape, room)
    runs = itertools.count()

    def planned(store: str) -> float:
        start = time.perf_counter()
        make_plan(site(room, store), pipeline, f"run {next(runs)}", Values())
        return time.perf_counter() - start

    run_without_running(site(room, "warm"), pipeline, room)
    times = side_by_side({"cold": lambda: planned(f"cold {next(runs)}"), "warm": lambda: planned("warm")})
    assert all(
        d.choice == "reuse" for d in make_plan(site(room, "warm"), pipeline, "last", Values()).decisions.values()
    )
    show(
        Row(f"plan of {STEPS} steps, {shape}, warm", times["warm"], target=Target("under", 1)),
        Row(f"plan of {STEPS} steps, {shape}, cold", times["cold"]),
    )


def site(room: Path, store: str) -> Site:
    return Site.open(Workspace(), default_store=room / store)


def pipeline_of(shape: str, room: Path) -> Pipeline:
    """Return a pipeline whose steps run one script of one directory, each with an argument of its own."""
    source = room / "src"
    source.mkdir()
    (source / "step.py").write_text("print('nothing')\n")
    (room / "data.csv").write_text("a,b\n1,2\n")
    steps = []
    for number in range(STEPS):
        after = upstream_of(shape, number)
        inputs = {f"from_{up}": StepOutput(step=step_name(up), output="out") for up in after}
        steps.append(
            PythonScriptStep(
                name=step_name(number),
                script_name="step.py",
                source_directory="src",
                arguments=["--number", str(number), "--out", "${{ outputs.out }}"],
                inputs=inputs or {"data": DataReference(path="data.csv")},
                outputs={"out": {}},
            )
        )
    pipeline = Pipeline(name=f"plan_{shape}", steps=steps)
    pipeline.folder = room
    return pipeline


def run_without_running(place: Site, pipeline: Pipeline, room: Path) -> None:
    """Leave in the store what a run of every step leaves there, without starting any."""
    plan = make_plan(place, pipeline, "first", Values())
    known: dict[str, dict[str, OutputRef]] = {}
    for name in sorted(plan.tasks):
        spec = read_inputs(place, fill_in(plan.tasks[name].spec, known, place.store.uri))
        known[name] = {"out": record(place, spec, room)}
    make_plan(place, pipeline, "second", Values())


def record(place: Site, spec: StepSpec, room: Path) -> OutputRef:
    key = fingerprint(components(spec))
    held = claim(place.store, key, Owner.here(spec.pipeline, "first", spec.step))
    assert held
    made = room / "made"
    made.write_text(spec.step)
    content = outputs.publish(place.store, key, held.id, "out", made)
    ref = OutputRef(layout.output(key, held.id, "out"), content)
    result = StepResult(exit_code=0, outputs={"out": ref}, observed={"pydantic": version("pydantic")})
    commit(place.store, held, make_body(spec, result, {"pipeline": spec.pipeline, "run": "first", "step": spec.step}))
    return ref
