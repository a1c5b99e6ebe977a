"""Plans of pipelines whose store and data lie on S3: what they ask of it."""

from __future__ import annotations

from collections import Counter

import fsspec
import pytest

from airflow_mlpipe.definitions import CommandStep, DataReference, Datastore, Pipeline, PythonScriptStep, Workspace
from airflow_mlpipe.resolving.site import Site
from tests.reuse.engine import Engine

pytestmark = pytest.mark.s3

STEPS = 12


@pytest.fixture
def root(s3):
    return s3.fresh()


@pytest.fixture
def engine(root, network, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    workspace = Workspace(
        store=Datastore(url=f"{root}/store", connection="lake"),
        datastores={"landing": Datastore(url=f"{root}/landing", connection="lake")},
    )
    engine = Engine(tmp_path)
    engine.site = Site.open(workspace, default_store=tmp_path / "unused", storage_options=lambda _: network.options)
    return engine


@pytest.fixture
def fs(s3):
    return fsspec.filesystem("s3", **s3.options)


@pytest.fixture
def pipeline(fs, root):
    """A pipeline whose first two steps read a folder of 30 files."""
    for number in range(30):
        fs.pipe_file(f"{root}/landing/raw/{number}.txt", b"1")
    raw = DataReference(datastore="landing", path="raw")
    steps = [
        CommandStep(name=f"s{number}", command=command(number), inputs={"data": raw}, outputs=["out"])
        for number in range(2)
    ]
    for number in range(2, STEPS):
        data = f"${{{{ steps.s{number // 2 - 1}.outputs.out }}}}"
        steps.append(CommandStep(name=f"s{number}", command=command(number), inputs={"data": data}, outputs=["out"]))
    return Pipeline(name="p", steps=steps)


def command(number):
    return f"ls ${{{{ inputs.data }}}} > ${{{{ outputs.out }}}}; echo {number} >> ${{{{ outputs.out }}}}"


def asked(network, action):
    """Count the requests of an action, by their kind and what they ask for."""
    before = len(network.requests)
    result = action()
    places = ((request.kind, (request.key or request.prefix).split("/")[1:3]) for request in network.requests[before:])
    return result, Counter((kind, place[1] if place[0] == "store" else place[0]) for kind, place in places)


def test_a_plan_that_reuses_everything_costs_the_same_few_requests_however_many_steps(engine, pipeline, network):
    assert set(engine.run(pipeline).outcomes().values()) == {"ran"}
    engine.plan(pipeline, "copies what it reads")
    plan, seen = asked(network, lambda: engine.plan(pipeline, "again"))
    assert {decision.choice for decision in plan.decisions.values()} == {"reuse"}
    assert seen == {
        ("GET", "copies"): 1,
        ("LIST", "latest"): 1,
        ("LIST", "log"): 1,
        ("LIST", "outputs"): 1,
        ("LIST", "landing"): 1,
        ("PUT", "runs"): 2,
        ("PUT", "journal"): 1,
    }


def test_a_plan_after_a_change_asks_for_what_changed_and_reads_no_data(engine, pipeline, network, fs, root):
    engine.run(pipeline)
    engine.plan(pipeline, "copies what it reads")
    fs.pipe_file(f"{root}/landing/raw/5.txt", b"2")
    plan, seen = asked(network, lambda: engine.plan(pipeline, "again"))
    assert [name for name, decision in plan.decisions.items() if decision.choice == "run"] == ["s0", "s1"]
    assert ("GET", "landing") not in seen
    assert ("GET", "outputs") not in seen
    assert sum(seen.values()) < STEPS + 4
    outcomes = engine.run(pipeline).outcomes()
    assert outcomes["s0"] == outcomes["s1"] == "ran"
    assert {outcomes[f"s{number}"] for number in range(2, STEPS)} == {"reused"}  # they got the same lines again


def test_an_output_that_is_lost_is_seen_by_the_plan(engine, pipeline, fs):
    ran = engine.run(pipeline)
    engine.plan(pipeline, "copies what it reads")
    fs.rm(engine.site.store.full(ran["s4"].outputs["out"].path))
    plan = engine.plan(pipeline, "again")
    assert [name for name, decision in plan.decisions.items() if decision.choice == "run"] == ["s4"]
    assert "it is gone" in str(plan.decisions["s4"].reasons)


def test_code_that_many_steps_share_is_packed_once(engine, network, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("")
    steps = [
        PythonScriptStep(
            name=f"s{number}", source_directory=tmp_path / "src", script_name="a.py", arguments=[str(number)]
        )
        for number in range(STEPS)
    ]
    _, seen = asked(network, lambda: engine.plan(Pipeline(name="p", steps=steps), "r1"))
    assert {kind: seen[kind, "snapshots"] for kind in ("HEAD", "PUT")} == {"HEAD": 1, "PUT": 2}
