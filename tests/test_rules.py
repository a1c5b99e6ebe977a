"""The rules of reuse where they hold for a whole pipeline; those of a single part are tested beside it."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import (
    CommandStep,
    DataTransferStep,
    Environment,
    EstimatorStep,
    LocalCompute,
    MpiStep,
    Pipeline,
    PipelineParameter,
    PythonScriptStep,
    Workspace,
    parameter_values,
)
from airflow_mlpipe.exceptions import ParameterError, StoreUnreachableError
from airflow_mlpipe.operators.run_context import utc_text
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.resolving.environments import to_lock
from airflow_mlpipe.resolving.locks import lock_environments
from airflow_mlpipe.store import attempts
from tests.resolving.projects import Project
from tests.reuse.engine import Engine
from tests.reuse.pure import Launches
from tests.services import READS, WRITES, unreachable

WHENS = {"run_after": "2026-05-01T00:00:00+00:00"}
VALUES = Values({"c": 1.0}, WHENS)


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    monkeypatch.setattr(attempts, "PAUSES", (0,))


@pytest.fixture
def project(tmp_path):
    workspace = Workspace(
        compute={"other": LocalCompute()},
        environments={"fast": Environment(variables={"MODE": "fast"})},
        datastores={"landing": {"url": str(tmp_path / "project" / "data")}},
        frameworks={"six": {"requirements": "six=={version}"}},
    )
    project = Project(tmp_path / "project", workspace)
    project.write("src/train.py", "import helper\n")
    project.write("src/helper.py")
    project.write("src/notes.txt")
    project.write("data/raw.csv", "1,2\n")
    project.write("data/same.csv", "1,2\n")
    project.write("data/other.csv", "3,4\n")
    project.write("more/train.py")
    return project


SCRIPT = {
    "name": "train",
    "script_name": "train.py",
    "source_directory": "src",
    "arguments": ["--data", "${{ inputs.data }}", "--c", "${{ parameters.c }}"],
    "inputs": {"data": "data/raw.csv"},
    "outputs": ["model"],
    "parameters": {"rounds": 3},
    "environment": Environment(variables={"MODE": "fast"}),
}
COMMAND = {
    "name": "count",
    "command": "wc -l ${{ inputs.data }} > ${{ outputs.lines }}",
    "inputs": {"data": "data/raw.csv"},
    "outputs": ["lines"],
    "parameters": {"rounds": 3},
    "environment": Environment(variables={"MODE": "fast"}),
}
ESTIMATOR = {**SCRIPT, "entry_script": SCRIPT["script_name"], "framework": "six"}
del ESTIMATOR["script_name"]
RANKS = {**SCRIPT, "process_count_per_node": 2}
TRANSFER = {"name": "copy", "source": "data/raw.csv", "destination": "landed/raw.csv"}
STEPS = {
    "script": (PythonScriptStep, SCRIPT),
    "command": (CommandStep, COMMAND),
    "estimator": (EstimatorStep, ESTIMATOR),
    "mpi": (MpiStep, RANKS),
    "transfer": (DataTransferStep, TRANSFER),
}

COUNTS_NOT = {
    "name": "another",
    "description": "What it does",
    "display_name": "Train!",
    "compute": "other",
    "run_after": ["before"],
    "run_if": "${{ steps.before.metrics.auc > 0.9 and parameters.c < 3 }}",
    "allow_reuse": False,
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "timeout": timedelta(hours=1),
    "pool": "gpus",
    "priority": 7,
    "resources": {"gpus": 1},
    "labels": {"team": "a"},
    "on_success": "callbacks.notify",
    "on_failure": "callbacks.notify",
    "on_retry": "callbacks.notify",
    "version": "2",
}
"""Another value for each field that says who a step is, where and when it runs, and what follows."""

COUNTS = {
    "script": {
        "script_name": "helper.py",
        "arguments": ["--data", "${{ inputs.data }}"],
        "source_directory": "more",
        "code": "imports",
        "inputs": {"data": "data/other.csv"},
        "outputs": ["model", "report"],
        "parameters": {"rounds": 4},
        "environment": Environment(variables={"MODE": "slow"}),
    },
    "command": {
        "command": "wc -c ${{ inputs.data }} > ${{ outputs.lines }}",
        "source_directory": "src",
        "inputs": {"data": "data/other.csv"},
        "outputs": {"lines": {"kind": "file"}},
        "parameters": {},
        "environment": Environment(variables={}),
    },
    "transfer": {"source": "data/other.csv", "destination": "landed/other.csv"},
}
"""Another value for each field that says what a step makes of what."""

COUNTS["estimator"] = {
    **{name: value for name, value in COUNTS["script"].items() if name != "script_name"},
    "entry_script": "helper.py",
    "framework": "tensorflow",
    "framework_version": "1.16.0",
    "requirements": ["idna==3.7"],
    "distribution": {"kind": "mpi", "processes_per_node": 2},
}
COUNTS["mpi"] = {
    **{name: value for name, value in COUNTS["script"].items() if name != "code"},
    "command": ["echo", "${{ inputs.data }}"],
    "process_count_per_node": 4,
    "options": ["--oversubscribe"],
    "hostfile": "notes.txt",
    "outputs_of": "each",
}
PORTED = ("script", "command", "estimator", "mpi")
for _kind in PORTED:
    COUNTS[_kind]["sweep"] = {"parameters": {"c": [1.0, 2.0]}, "objective": {"metric": "auc", "goal": "maximize"}}
    COUNTS[_kind]["parallel"] = {"over": "${{ inputs.data }}", "mini_batch_size": 2}
TOGETHER = {("mpi", "command"): {"script_name": None, "arguments": []}}
"""What else must be said otherwise with a field."""

A_FOLDER = {"inputs": {"data": "data"}}
"""What has to be said otherwise for both, with a field that deals out the files of a folder."""

COUNTS_ON_A_CLUSTER = {"mpi": {"node_count"}}
"""Fields whose other values need a Kubernetes target; `tests/planning/test_distributed.py` has them."""

COUNTS_NOT_OF_TRANSFERS = {"environment": Environment(variables={"MODE": "slow"})}


COUNTS_NOT_OF_COMMANDS = {"checkpoint": True}


def excluded(kind):
    return {**COUNTS_NOT, **(COUNTS_NOT_OF_TRANSFERS if kind == "transfer" else COUNTS_NOT_OF_COMMANDS)}


def key(project, kind="script", pipeline=None, values=VALUES, **fields):
    """Return the fingerprint of a step, some of whose fields are given in another way."""
    cls, given = STEPS[kind]
    step = cls(**{**given, **fields})
    before = CommandStep(name="before", command="true")
    made = project.pipeline(before, step, **{"parameters": {"c": 1.0}, **(pipeline or {})})
    if {"framework_version", "requirements"} & fields.keys():
        lock_environments(project.root, [to_lock(project.workspace.environment_of(made, step), project.root)])
    return project.fingerprint(made, step.name, values)


@pytest.mark.parametrize("kind", STEPS)
def test_rule_3_each_field_of_a_step_either_counts_or_does_not(kind):
    fields = set(STEPS[kind][0].model_fields) - {"kind"}
    assert set(COUNTS[kind]) | set(excluded(kind)) | COUNTS_ON_A_CLUSTER.get(kind, set()) == fields
    assert not set(COUNTS[kind]) & set(excluded(kind))


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in STEPS for field in excluded(kind)])
def test_rule_3_what_says_where_and_when_a_step_runs_is_not_in_the_fingerprint(project, kind, field):
    assert key(project, kind, **{field: excluded(kind)[field]}) == key(project, kind)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in STEPS for field in COUNTS[kind]])
def test_rule_2_what_says_what_a_step_makes_is_in_the_fingerprint(project, kind, field):
    given = A_FOLDER if field == "parallel" else {}
    fields = {field: COUNTS[kind][field], **TOGETHER.get((kind, field), {}), **given}
    assert key(project, kind, **fields) != key(project, kind, **given)


@pytest.mark.parametrize("kind", PORTED)
@pytest.mark.parametrize("field", ["sweep", "parallel"])
def test_rule_3_how_many_trials_or_mini_batches_run_side_by_side_is_not_in_the_fingerprint(project, kind, field):
    given = {field: COUNTS[kind][field], **A_FOLDER}
    assert key(project, kind, **{**given, field: {**given[field], "max_concurrent": 2}}) == key(project, kind, **given)


@pytest.mark.parametrize("kind", PORTED)
@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"c": [1.0, 3.0]}},
        {"objective": {"metric": "loss", "goal": "maximize"}},
        {"objective": {"metric": "auc", "goal": "minimize"}},
        {"max_failed": 1},
    ],
    ids=str,
)
def test_rule_2_what_a_sweep_tries_and_how_it_tells_the_best_is_in_the_fingerprint(project, kind, changed):
    sweep = COUNTS[kind]["sweep"]
    assert key(project, kind, sweep={**sweep, **changed}) != key(project, kind, sweep=sweep)


def test_rule_2_what_kind_of_step_it_is_counts(project):
    assert len({key(project, kind) for kind in STEPS}) == len(STEPS)


OF_PIPELINE = {
    "name": "another",
    "description": "What it does",
    "experiment": "trials",
    "owner": "ml",
    "tags": ["a"],
    "schedule": "@daily",
    "start_date": datetime(2024, 1, 1, tzinfo=timezone.utc),
    "end_date": datetime(2034, 1, 1, tzinfo=timezone.utc),
    "catchup": True,
    "max_active_runs": 1,
    "compute": "other",
    "environment": Environment(variables={"MODE": "the step has its own"}),
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "timeout": timedelta(hours=1),
    "on_success": "callbacks.notify",
    "on_failure": "callbacks.notify",
    "parameters": {"c": PipelineParameter("c", default=1.0, maximum=2, description="Strength"), "unused": "x"},
}


def test_rule_3_each_field_of_a_pipeline_is_known():
    assert set(OF_PIPELINE) | {"steps"} == set(Pipeline.model_fields)


@pytest.mark.parametrize("field", OF_PIPELINE)
def test_rule_3_what_a_pipeline_says_of_itself_is_not_in_the_fingerprint(project, field):
    assert key(project, pipeline={field: OF_PIPELINE[field]}) == key(project)


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": {"data": {"path": "data/raw.csv", "mode": "download"}}},
        {"inputs": {"data": {"path": "data/raw.csv", "mode": "direct"}}},
        {"inputs": {"data": {"path": "data/raw.csv", "compare": "content"}}},
        {"inputs": {"data": {"datastore": "landing", "path": "raw.csv"}}},
        {"inputs": {"data": "data/same.csv"}},
        {"outputs": {"model": {"destination": "copies/model", "asset": "models"}}},
        {"outputs": {"model": {"datastore": "landing"}}},
        {"environment": "fast"},
        {"source_directory": "./src"},
        {"arguments": ["--data", "${{inputs.data}}", "--c", "${{  parameters.c  }}"]},
    ],
    ids=str,
)
def test_rule_3_where_data_lies_and_how_it_is_delivered_is_not_in_the_fingerprint(project, fields):
    assert key(project, **fields) == key(project)


def test_rule_3_the_place_of_the_project_is_not_in_the_fingerprint(project):
    before = {kind: key(project, kind) for kind in ("script", "command")}
    moved = Project(project.root.with_name("moved häuser"), project.workspace)
    shutil.move(project.root, moved.root)
    assert {kind: key(moved, kind) for kind in before} == before


def test_rule_3_times_are_not_in_the_fingerprint(project):
    before = key(project)
    for path in project.root.rglob("*"):
        os.utime(path, (1, 1))
    later = Values({"c": 1.0}, {"run_after": "2027-01-01T00:00:00+00:00", "logical_date": "2027-01-01T00:00:00+00:00"})
    assert key(project, values=later) == before


def test_rule_3_a_parameter_that_a_step_does_not_use_is_not_in_its_fingerprint(project):
    assert key(project, "command", values=Values({"c": 2.0})) == key(project, "command")
    assert key(project, values=Values({"c": 2.0})) != key(project)


@pytest.mark.parametrize(("first", "second"), [(1.0, 1), (1, "1"), (True, 1), ("true", True)])
def test_rule_2_a_value_counts_by_its_type(project, first, second):
    assert key(project, values=Values({"c": first})) != key(project, values=Values({"c": second}))


def test_rule_2_a_number_is_a_number_however_it_was_written(project):
    pipeline = project.pipeline(CommandStep(name="a", command="true"), parameters={"c": 1.0})
    form, yaml, default = (parameter_values(pipeline, given) for given in ({"c": 1}, {"c": 1.0}, {}))
    assert len({key(project, values=Values(values)) for values in (form, yaml, default)}) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.0", None])
def test_rule_2_what_is_no_number_is_refused_before_it_counts(project, value):
    pipeline = project.pipeline(CommandStep(name="a", command="true"), parameters={"c": 1.0})
    with pytest.raises(ParameterError, match="parameter c must be a number"):
        parameter_values(pipeline, {"c": value})


@pytest.mark.parametrize(
    "zone", [timezone.utc, timezone(timedelta(hours=9)), timezone(timedelta(hours=-3, minutes=-30))]
)
def test_rule_2_one_moment_has_one_text(zone):
    moment = datetime(2026, 5, 1, 12, 30, tzinfo=timezone.utc)
    assert utc_text(moment.astimezone(zone)) == "2026-05-01T12:30:00+00:00"


def test_rule_2_a_moment_counts_where_a_step_uses_it(project):
    uses = {"arguments": ["${{ run.run_after }}"], "inputs": {}}
    later = Values({"c": 1.0}, {"run_after": "2027-01-01T00:00:00+00:00"})
    assert key(project, **uses) != key(project, **uses, values=later)


def test_rule_2_the_value_of_a_secret_is_nowhere_in_the_store(project):
    project.write(
        "src/train.py", "import os; print(os.environ['TOKEN']); open(os.environ['MLPIPE_OUTPUT_MODEL'], 'w')\n"
    )
    step = PythonScriptStep(**{**SCRIPT, "environment": Environment(secrets={"TOKEN": "connection:vault.password"})})
    engine = Engine(project.root, project.workspace)
    assert engine.run(project.pipeline(step, parameters={"c": 1.0})).outcomes() == {"train": "ran"}
    kept = [path.read_bytes() for path in (project.root / "store").rglob("*") if path.is_file()]
    assert any(b"TOKEN" in content for content in kept)
    assert not any(b"a secret value" in content for content in kept)
    assert not any("a secret value" in line for line in engine.said)


def test_rule_6_what_is_made_again_lies_beside_what_was_made_before(project):
    engine = Engine(project.root, project.workspace, Launches())
    pipeline = project.pipeline(CommandStep(name="a", command="a", outputs=["x"]))
    first = engine.run(pipeline)["a"].outputs["x"]
    second = engine.run(pipeline, regenerate=["a"])["a"].outputs["x"]
    assert first.path != second.path
    assert engine.content(first) == engine.content(second)


PLANS = """
import sys
from pathlib import Path
from airflow_mlpipe.definitions import Workspace, load_pipeline
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.resolving.planner import make_plan
from airflow_mlpipe.resolving.site import Site

started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {"subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system"} else None)
pipeline = load_pipeline(Path(sys.argv[1]))
for dry in (True, False):
    plan = make_plan(Site.open(Workspace(), default_store=sys.argv[2]), pipeline, "r1", Values(), dry=dry)
    print(*[decision.choice for decision in plan.decisions.values()])
print(started)
print([name for name in sys.modules if name.startswith(("airflow_mlpipe.launchers", "airflow_mlpipe.operators"))])
"""

CHAIN = """
name: p
steps:
  first: {kind: python_script, source_directory: src, script_name: run.py, outputs: {x: {}}}
  second: {kind: python_script, source_directory: src, script_name: run.py, inputs: {x: "${{ steps.first.outputs.x }}"}}
  third: {kind: command, command: "touch ../ran", source_directory: src, run_after: [second]}
"""


def test_rule_9_a_plan_starts_nothing_and_needs_no_launcher(project):
    project.write("src/run.py", f"open({str(project.root / 'ran')!r}, 'w')\n")
    file = project.write("p.yaml", CHAIN)
    given = [sys.executable, "-c", PLANS, str(file), str(project.root / "store")]
    ended = subprocess.run(given, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert ended.stdout.splitlines() == ["run depends depends"] * 2 + ["[]", "[]"], ended.stderr
    assert not list(project.root.rglob("ran"))


def test_rule_9_what_is_reused_in_its_turn_is_not_launched(project):
    launches = Launches()
    engine = Engine(project.root, project.workspace, launches)
    first = CommandStep(name="first", command="a", outputs=["x"])
    second = CommandStep(name="second", command="b", inputs={"x": "${{ steps.first.outputs.x }}"}, outputs=["y"])
    pipeline = project.pipeline(first, second)
    assert engine.run(pipeline).outcomes() == {"first": "ran", "second": "ran"}
    launches.taken()
    plan = engine.plan(pipeline, "again", waits={"first": ("users_download",)})
    assert {name: decision.choice for name, decision in plan.decisions.items()} == dict.fromkeys(
        ("first", "second"), "depends"
    )
    assert engine.follow(pipeline, plan).outcomes() == {"first": "reused", "second": "reused"}
    assert launches.taken() == []


@pytest.fixture
def remote(project):
    """An engine whose store can be out of reach, and a pipeline of one step."""
    launches = Launches()
    engine = Engine(project.root, project.workspace, launches, store=f"service://{uuid.uuid4().hex}")
    pipeline = project.pipeline(CommandStep(name="a", command="a", outputs=["x"]))
    return engine, pipeline, launches


def test_rule_10_a_plan_fails_clearly_where_the_store_does_not_answer(remote):
    engine, pipeline, _ = remote
    assert engine.run(pipeline).outcomes() == {"a": "ran"}
    for calls in (READS, WRITES, READS | WRITES):
        with unreachable(calls), pytest.raises(StoreUnreachableError, match=r"the store service://\w+ failed: cannot"):
            engine.plan(pipeline, "down")
    assert engine.run(pipeline).outcomes() == {"a": "reused"}


@pytest.mark.parametrize("calls", [READS, WRITES, READS | WRITES], ids=["reads", "writes", "everything"])
def test_rule_10_a_step_fails_clearly_and_is_not_launched_where_the_store_does_not_answer(remote, calls):
    engine, pipeline, launches = remote
    plan = engine.plan(pipeline, "r1")
    with unreachable(calls):
        failed = engine.follow(pipeline, plan)["a"]
    assert isinstance(failed.error, StoreUnreachableError)
    assert "failed: cannot" in str(failed.error)
    assert launches.taken() == []
    assert engine.log(plan.decisions["a"].fingerprint).records == ()
    assert engine.follow(pipeline, plan).outcomes() == {"a": "ran"}


def test_rule_10_a_damaged_record_makes_the_step_run_again(project):
    engine = Engine(project.root, project.workspace, Launches())
    pipeline = project.pipeline(CommandStep(name="a", command="a", outputs=["x"]))
    earlier = multiprocessing.get_context("fork").Process(target=engine.run, args=(pipeline, "earlier"))
    earlier.start()
    earlier.join()
    first = engine.run(pipeline)["a"]
    assert first.outcome == "reused"
    entry = max((project.root / "store" / "log").rglob("*.json"))
    entry.write_bytes(entry.read_bytes()[:100])
    second = engine.run(pipeline)["a"]
    assert (second.outcome, engine.content(second.outputs["x"])) == ("ran", engine.content(first.outputs["x"]))
    assert engine.run(pipeline).outcomes() == {"a": "reused"}


def test_rule_10_damaged_code_is_packed_anew(project):
    engine = Engine(project.root, project.workspace)
    step = PythonScriptStep(name="a", script_name="helper.py", source_directory="src")
    plan = engine.plan(project.pipeline(step), "r1")
    (snapshot,) = (project.root / "store" / "snapshots").glob("*.tar")
    snapshot.chmod(0o644)
    snapshot.write_bytes(snapshot.read_bytes()[:700])
    failed = engine.follow(project.pipeline(step), plan)["a"]
    assert "was damaged" in str(failed.error)
    assert engine.run(project.pipeline(step)).outcomes() == {"a": "ran"}


def test_rule_13_a_transfer_copies_again_when_either_end_changed_and_only_then(project):
    launches = Launches()
    engine = Engine(project.root, project.workspace, launches)
    pipeline = project.pipeline(DataTransferStep(**TRANSFER))
    there = project.root / "landed" / "raw.csv"
    outcomes = [engine.run(pipeline)["copy"].outcome, engine.run(pipeline)["copy"].outcome]
    there.write_text("edited\n")
    outcomes += [engine.run(pipeline)["copy"].outcome, engine.run(pipeline)["copy"].outcome]
    assert there.read_text() == "1,2\n"
    project.write("data/raw.csv", "5,6\n")
    outcomes += [engine.run(pipeline)["copy"].outcome, engine.run(pipeline)["copy"].outcome]
    assert there.read_text() == "5,6\n"
    there.unlink()
    outcomes += [engine.run(pipeline)["copy"].outcome, engine.run(pipeline)["copy"].outcome]
    assert there.read_text() == "5,6\n"
    assert outcomes == ["ran", "reused"] * 4
