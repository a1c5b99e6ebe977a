"""Pipelines run and the store is pruned at the same time; for longer with ``MLPIPE_PRUNE_SECONDS``."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import CommandStep, Pipeline, PythonScriptStep
from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner
from airflow_mlpipe.resolving.verifying import verify_outputs
from airflow_mlpipe.store import layout, pins, runs
from airflow_mlpipe.store.pins import Pin
from tests.reuse.engine import Engine
from tests.reuse.pure import Launches

if TYPE_CHECKING:
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
SECONDS = float(os.environ.get("MLPIPE_PRUNE_SECONDS", "10"))
RUNNERS = 3
VALUES = 5
GUARD = Guard(grace=timedelta(seconds=1), live=timedelta(minutes=1), recent=timedelta(seconds=2))
POLICIES = (
    Policy(keep_last=1, runs_older_than=timedelta(0)),
    Policy(unused_for=timedelta(seconds=0.5), keep_last=1),
    Policy(max_size=200, keep_last=1),
    Policy(keep_last=1, evict=True, runs_older_than=timedelta(0)),
)
NOTHING = timedelta(0)


def diamond(folder: Path) -> Pipeline:
    """A step, two that take its data, and one that takes theirs; all differ by `c`, and one never reuses."""
    for name in ("first", "left", "right"):
        path = folder / name / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"step = {name!r}\n")

    def script(name: str, **fields) -> PythonScriptStep:
        return PythonScriptStep(name=name, script_name=f"{name}.py", source_directory=name, outputs=["out"], **fields)

    data = {"data": "${{ steps.first.outputs.out }}"}
    pipeline = Pipeline(
        name="p",
        steps=[
            script("first", arguments=["${{ parameters.c }}"]),
            script("left", inputs=data),
            script("right", inputs=data, allow_reuse=False),
            CommandStep(
                name="join",
                command="x",
                inputs={"a": "${{ steps.left.outputs.out }}", "b": "${{ steps.right.outputs.out }}"},
                outputs=["out"],
            ),
            CommandStep(name="last", command="x", inputs={"a": "${{ steps.left.outputs.out }}"}, outputs=["out"]),
        ],
        parameters={"c": 0},
    )
    pipeline.folder = folder
    return pipeline


def run_until(end: float, root: Path, pipeline: Pipeline, number: int, told) -> None:
    """Run the pipeline with one value after the other; tell what was missing, and how many runs there were."""
    try:
        engine, random = Engine(root, launcher=Launches()), Random(number)
        seen, count = {}, 0
        while time.monotonic() < end:
            c = random.randrange(VALUES)
            parameters = {"c": c}
            run = f"{number} {count}"
            plan = engine.plan(pipeline, run, parameters=parameters, outside=())
            if any(decision.choice != "reuse" for decision in plan.decisions.values()):
                time.sleep(random.choice([0, 0, 0, 2.5]))  # longer than the grace time
            ran = engine.follow(pipeline, plan, parameters=parameters)
            for name, ended in ran.steps.items():
                assert ended.outcome in {"reused", "ran", "waited"}, (name, ended.outcome, ended.error)
                decision = plan.decisions[name]
                if decision.found is None or not decision.found.evicted:
                    content = engine.content(ended.outputs["out"])
                    assert seen.setdefault((name, c), content) == content
            assert runs.read_plan(engine.site.store, pipeline.name, run) == plan.to_json(), run
            count += 1
        told.put((number, count, None))
    except BaseException:  # noqa: BLE001 -- the test shall see it
        told.put((number, 0, traceback.format_exc()))


def prune_until(end: float, root: Path, told) -> None:
    """Prune again and again, each time by another policy; tell how many records and folders went."""
    try:
        store, count, removed = Engine(root).site.store, 0, 0
        voided = {True: 0, False: 0}
        while time.monotonic() < end:
            policy = POLICIES[count % len(POLICIES)]
            pruning = Pruner(store, policy, GUARD).prune()
            voided[policy.evict] += len(pruning.going)
            removed += sum(leftover.kind == "outputs" for leftover in pruning.removed)
            count += 1
        told.put(("pruner", (voided[False], voided[True], removed), None))
    except BaseException:  # noqa: BLE001 -- as above
        told.put(("pruner", None, traceback.format_exc()))


def leave_old_things(engine: Engine) -> list[str]:
    """Leave a run of long ago, its day of the journal, and a file that somebody was writing who was killed."""
    store, then = engine.site.store, datetime.now(timezone.utc) - timedelta(days=90)
    runs.write_pin(store, "p", "old", {"time": then.isoformat(), "fingerprints": []})
    day, killed = layout.journal_day("p", f"{then:%Y-%m-%d}"), f"{layout.RUNS}/p/.0123456789abcdef.tmp"
    store.write(f"{day}/1.json", b"{}")
    store.write(killed, b"half")
    paths = [layout.run("p", "old"), day, killed]
    for path in (layout.pin("p", "old"), killed):
        os.utime(store.local_root / path, times=(then.timestamp(),) * 2)
    return paths


def test_rule_12_no_run_misses_an_output_while_the_store_is_pruned(tmp_path):
    engine = Engine(tmp_path, launcher=Launches())
    store, pipeline = engine.site.store, diamond(tmp_path / "project")
    kept = engine.run(pipeline, "kept", parameters={"c": 99})
    pinned = str(kept["last"].fingerprint)
    pins.add(store, Pin(fingerprint=pinned, note="the paper's"))
    old = leave_old_things(engine)

    told, end = FORK.Queue(), time.monotonic() + SECONDS
    processes = [
        FORK.Process(target=run_until, args=(end, tmp_path, pipeline, number, told)) for number in range(RUNNERS)
    ]
    processes.append(FORK.Process(target=prune_until, args=(end, tmp_path, told)))
    for process in processes:
        process.start()
    heard = {who: (what, error) for who, what, error in (told.get(timeout=SECONDS + 120) for _ in processes)}
    for process in processes:
        process.join()

    assert [error for _, error in heard.values() if error] == []
    assert all(heard[number][0] for number in range(RUNNERS))
    voided, evicted, removed = heard["pruner"][0]
    assert voided > 0
    assert evicted > 0
    assert removed > 0

    assert [path for path in old if store.sizes(path)] == []
    there, began = set(runs.runs(store, "p")), sum(heard[number][0] for number in range(RUNNERS))
    assert {f"{number} {heard[number][0] - 1}" for number in range(RUNNERS)} <= there
    if 2 * GUARD.live.total_seconds() < SECONDS:
        assert len(there) < began

    inventory = Inventory.read(store)
    assert verify_outputs(store, inventory.items, digests=True).damaged == ()
    assert {item.step[1] for item in inventory.items} == {step.name for step in pipeline.steps}
    assert [item.record.evicted for item in inventory.find(pinned)] == [False]

    done = Pruner(store, Policy(older_than=NOTHING), Guard(NOTHING, NOTHING, NOTHING)).prune()
    assert done.kept
    assert {choice.item.fingerprint for choice in done.kept} == {pinned}
    left = {path.split("/")[0] for path in store.sizes(layout.OUTPUTS)}
    assert left == {pinned}
    assert engine.content(kept["last"].outputs["out"])


def test_rule_12_what_was_evicted_is_made_again_only_for_a_step_that_must_run(tmp_path):
    engine = Engine(tmp_path, launcher=Launches())

    def chain(rounds: int) -> Pipeline:
        """Three steps in a row, the last of which can be changed."""
        pipeline = Pipeline(
            name="p",
            steps=[
                CommandStep(name="raw", command="x", outputs=["out"]),
                CommandStep(name="clean", command="y", inputs={"a": "${{ steps.raw.outputs.out }}"}, outputs=["out"]),
                CommandStep(
                    name="train",
                    command=f"z {rounds}",
                    inputs={"a": "${{ steps.clean.outputs.out }}"},
                    outputs=["out"],
                ),
            ],
        )
        pipeline.folder = tmp_path
        return pipeline

    def run(pipeline: Pipeline, name: str) -> dict[str, str]:
        return engine.follow(pipeline, engine.plan(pipeline, name, outside=())).outcomes()

    def evict_all() -> None:
        Pruner(engine.site.store, Policy(keep_last=0, evict=True), Guard(NOTHING, NOTHING, NOTHING)).prune()
        assert engine.site.store.sizes(layout.OUTPUTS) == {}

    run(chain(1), "r1")
    evict_all()
    assert run(chain(1), "r2") == {"raw": "reused", "clean": "reused", "train": "reused"}
    assert run(chain(2), "r3") == {"raw": "ran", "clean": "ran", "train": "ran"}
    assert run(chain(3), "r4") == {"raw": "reused", "clean": "reused", "train": "ran"}
    assert run(chain(1), "r5") == {"raw": "reused", "clean": "reused", "train": "reused"}
