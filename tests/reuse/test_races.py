"""What happens at the same time: two runs of one pipeline, edits during a run, data replaced under a step, killed runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, Pipeline, PythonScriptStep
from airflow_mlpipe.exceptions import DataChangedError
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.operators import life
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.store import runs
from tests.reuse.engine import Engine, tree
from tests.reuse.pure import Launches

if TYPE_CHECKING:
    from pathlib import Path

FORK = multiprocessing.get_context("fork")
RACERS, ROUNDS = 4, 10


def pipeline_in(folder: Path, *steps, **fields) -> Pipeline:
    pipeline = Pipeline(name="p", steps=list(steps), **fields)
    pipeline.folder = folder
    return pipeline


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def script(name: str, **fields) -> PythonScriptStep:
    return PythonScriptStep(name=name, script_name=f"{name}.py", source_directory=name, **fields)


def graph(folder: Path) -> Pipeline:
    """Two steps side by side, and one that needs both; all are new for each value of `c`."""
    write(folder, "left/left.py", "one = 1\n")
    write(folder, "right/right.py", "two = 2\n")
    return pipeline_in(
        folder,
        script("left", outputs=["out"], arguments=["${{ parameters.c }}"]),
        script("right", outputs=["folder"], arguments=["${{ parameters.c }}"]),
        CommandStep(
            name="join",
            command="x",
            inputs={"a": "${{ steps.left.outputs.out }}", "b": "${{ steps.right.outputs.folder }}"},
            outputs=["out"],
        ),
        parameters={"c": 0},
    )


def test_runs_of_one_pipeline_at_once_compute_each_step_once_and_agree(tmp_path):
    pipeline = graph(tmp_path / "project")
    barrier, told = FORK.Barrier(RACERS, timeout=60), FORK.Queue()

    def race(racer: int) -> None:
        engine = Engine(tmp_path, launcher=Launches())
        for turn in range(ROUNDS):
            barrier.wait()
            ran = engine.run(pipeline, f"run {racer} of {turn}", parameters={"c": turn})
            launched = [launch.step for launch in engine.launcher.taken()]
            told.put((turn, launched, ran.outcomes(), engine.contents(ran)))
        barrier.wait()  # a winner that has ended would be superseded

    racers = [FORK.Process(target=race, args=(racer,)) for racer in range(RACERS)]
    for process in racers:
        process.start()
    heard = [told.get(timeout=60) for _ in range(RACERS * ROUNDS)]
    for process in racers:
        process.join()
    for turn in range(ROUNDS):
        of_turn = [item[1:] for item in heard if item[0] == turn]
        launched = Counter(step for steps, *_ in of_turn for step in steps)
        assert launched == {"left": 1, "right": 1, "join": 1}
        outcomes = {outcome for _, ended, _ in of_turn for outcome in ended.values()}
        assert outcomes <= {"ran", "waited", "reused"}
        assert all(contents == of_turn[0][2] for *_, contents in of_turn)


def test_plans_of_one_run_at_once_leave_one_whole_plan(tmp_path):
    pipeline = graph(tmp_path / "project")
    barrier, ids = FORK.Barrier(RACERS, timeout=60), FORK.Queue()

    def race() -> None:
        engine = Engine(tmp_path, launcher=Launches())
        for turn in range(ROUNDS):
            barrier.wait()
            ids.put((turn, engine.plan(pipeline, f"run {turn}").id))

    racers = [FORK.Process(target=race) for _ in range(RACERS)]
    for process in racers:
        process.start()
    made = [ids.get(timeout=60) for _ in range(RACERS * ROUNDS)]
    for process in racers:
        process.join()
    store = Engine(tmp_path).site.store
    for turn in range(ROUNDS):
        kept = RunPlan.from_json(runs.read_plan(store, "p", f"run {turn}"))
        assert (turn, kept.id) in made
        assert list(kept.tasks) == ["left", "right", "join"]


def test_a_run_keeps_the_code_that_was_planned(tmp_path, engine):
    """The first step edits the code of the second, as somebody may while it runs."""
    folder = tmp_path / "project"
    edited = folder / "second" / "second.py"
    writes = "import os, sys\nopen(os.environ['MLPIPE_OUTPUT_OUT'], 'w').write('{}')\n"
    write(folder, "first/first.py", writes.format("made") + f"open({str(edited)!r}, 'w').write(sys.argv[1])\n")
    write(folder, "second/second.py", writes.format("old"))
    pipeline = pipeline_in(
        folder,
        script("first", outputs=["out"], arguments=[writes.format("new")]),
        script("second", outputs=["out"], inputs={"x": "${{ steps.first.outputs.out }}"}),
    )
    ran = engine.run(pipeline)
    assert "'new'" in edited.read_text()
    assert engine.content(ran["second"].outputs["out"]) == {"": b"old"}
    after = engine.run(pipeline)
    assert after.outcomes() == {"first": "reused", "second": "ran"}
    assert after["second"].line == "ran: second.py changed"
    assert engine.content(after["second"].outputs["out"]) == {"": b"new"}


def test_a_step_cleared_after_an_edit_still_runs_the_code_of_its_plan(tmp_path, engine):
    folder = tmp_path / "project"
    writes = "import os\nopen(os.environ['MLPIPE_OUTPUT_OUT'], 'w').write('{}')\n"
    write(folder, "only/only.py", writes.format("old"))
    pipeline = pipeline_in(folder, script("only", outputs=["out"], allow_reuse=False))
    plan = engine.plan(pipeline, "r1")
    engine.follow(pipeline, plan)
    write(folder, "only/only.py", writes.format("new"))
    again = engine.follow(pipeline, plan)
    assert engine.content(again["only"].outputs["out"]) == {"": b"old"}


REPLACE = {
    "written": "open(path, 'w').write('3,4\\n')",
    "written at the same time": (
        "import os; before = os.stat(path); open(path, 'w').write('3,4\\n'); "
        "os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))"
    ),
    "renamed": "import os; open(path + '.new', 'w').write('3,4\\n'); os.replace(path + '.new', path)",
    "removed": "import os; os.unlink(path)",
}


@pytest.mark.parametrize("mode", ["mount", "download", "direct"])
@pytest.mark.parametrize("how", REPLACE)
def test_rule_5_an_input_replaced_during_a_step_makes_no_record(tmp_path, engine, mode, how):
    folder = tmp_path / "project"
    data = write(folder, "raw.csv", "1,2\n")
    once = f"path = {str(data)!r}\nimport sys\nif open(path).read() == '1,2\\n': exec(sys.argv[1])\n"
    copies = "import os\nopen(os.environ['MLPIPE_OUTPUT_OUT'], 'w').write(open(path).read())\n"
    write(folder, "only/only.py", once + "else:\n    " + copies.replace("\n", "\n    "))
    pipeline = pipeline_in(
        folder,
        script("only", outputs=["out"], inputs={"x": {"path": "raw.csv", "mode": mode}}, arguments=[REPLACE[how]]),
    )
    plan = engine.plan(pipeline, "r1")
    failed = engine.follow(pipeline, plan)["only"]
    assert isinstance(failed.error, DataChangedError)
    assert "nothing is recorded" in str(failed.error)
    assert engine.log(plan.decisions["only"].fingerprint).records == ()
    assert engine.site.store.sizes("outputs") == {}
    write(folder, "raw.csv", "3,4\n")
    after = engine.run(pipeline)["only"]
    assert (after.outcome, engine.content(after.outputs["out"])) == ("ran", {"": b"3,4\n"})


def test_rule_5_an_input_replaced_between_plan_and_step_is_what_the_step_gets(tmp_path):
    folder = tmp_path / "project"
    engine = Engine(tmp_path, launcher=Launches())
    data = write(folder, "raw.csv", "1,2\n")
    pipeline = pipeline_in(folder, CommandStep(name="a", command="a", inputs={"x": "raw.csv"}, outputs=["out"]))
    plan = engine.plan(pipeline, "r1")
    data.write_text("3,4\n")
    ran = engine.follow(pipeline, plan)["a"]
    assert ran.fingerprint != plan.decisions["a"].fingerprint
    assert engine.run(pipeline)["a"].outcome == "reused"
    data.write_text("1,2\n")
    assert engine.run(pipeline)["a"].outcome == "ran"


def killed_before(monkeypatch, module, name):
    monkeypatch.setattr(module, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))


def killed_after(monkeypatch, module, name):
    done = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: (done(*given), os.kill(os.getpid(), signal.SIGKILL)))


STAGES = {
    "after its claim": (lambda patch: killed_after(patch, life.fingerprint_log, "claim"), "ran"),
    "before its launch": (lambda patch: killed_before(patch, life.Life, "_launch"), "ran"),
    "before its commit": (
        lambda patch: killed_before(patch, life.fingerprint_log, "commit"),
        "waited",
    ),  # and commits it
    "after its commit": (lambda patch: killed_after(patch, life.fingerprint_log, "commit"), "reused"),
    "before its note": (lambda patch: killed_before(patch, life.runs, "write_note"), "reused"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_rule_6_a_run_killed_at_any_stage_leaves_a_whole_record_or_none(tmp_path, stage):
    kill, outcome = STAGES[stage]
    engine = Engine(tmp_path, launcher=Launches())
    pipeline = pipeline_in(tmp_path, CommandStep(name="a", command="a", outputs=["out", "folder"]))
    expected = Engine(tmp_path / "whole", launcher=Launches())
    contents = expected.contents(expected.run(pipeline))

    def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            kill(patch)
            engine.run(pipeline, "killed")

    process = FORK.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    after = engine.run(pipeline)
    assert (after.outcomes(), engine.contents(after)) == ({"a": outcome}, contents)
    again = engine.run(pipeline)
    assert (again.outcomes(), engine.contents(again)) == ({"a": "reused"}, contents)


class Watched(TransferLauncher):
    """Notes how many transfers go on at the same time."""

    now: list[str] = []  # noqa: RUF012 -- shared by all
    most = 0

    def launch(self, spec, *rest):
        self.now.append(spec.pipeline)
        Watched.most = max(Watched.most, len(self.now))
        time.sleep(0.05)
        try:
            return super().launch(spec, *rest)
        finally:
            self.now.remove(spec.pipeline)


def test_rule_13_transfers_to_one_destination_take_turns(tmp_path):
    names = [f"p{number}" for number in range(4)]
    outcomes = {}

    def copy(name: str) -> None:
        for part in ("a", "b"):
            write(tmp_path, f"{name}/{part}", name)
        step = DataTransferStep(name="copy", source=name, destination="there")
        pipeline = Pipeline(name=name, steps=[step])
        pipeline.folder = tmp_path
        outcomes[name] = Engine(tmp_path, launcher=lambda site, _: Watched(site)).run(pipeline)["copy"].outcome

    threads = [threading.Thread(target=copy, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outcomes == dict.fromkeys(names, "ran")
    assert Watched.most == 1
    assert len(set(tree(tmp_path / "there").values())) == 1
