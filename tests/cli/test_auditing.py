from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_mlpipe.cli import auditing
from airflow_mlpipe.definitions import load_pipeline
from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner
from airflow_mlpipe.runtime.composite import SweepSpec
from airflow_mlpipe.store import layout
from tests.cli.helpers import call
from tests.reuse.engine import Engine

PIPELINE = """\
name: shadow
steps:
  same: {kind: command, command: "echo 1 > ${{ outputs.out }}", outputs: [out]}
  other:
    kind: command
    command: "cat ${{ inputs.same }} /proc/sys/kernel/random/uuid > ${{ outputs.out }}"
    inputs: {same: "${{ steps.same.outputs.out }}"}
    outputs: {out: {destination: copy.txt}}
  fails: {kind: command, command: "test ! -e FOLDER/no && touch ${{ outputs.out }}", outputs: [out]}
  secret:
    kind: command
    command: "touch ${{ outputs.out }}"
    outputs: [out]
    environment: {secrets: {KEY: "variable:key"}}
  copy: {kind: data_transfer, source: data.txt, destination: copied.txt}
"""


@pytest.fixture
def engine(tmp_path):
    (tmp_path / "shadow.yaml").write_text(PIPELINE.replace("FOLDER", str(tmp_path)))
    (tmp_path / "data.txt").write_text("1\n")
    made = Engine(tmp_path)
    made.pipeline = load_pipeline(tmp_path / "shadow.yaml")
    assert set(made.run(made.pipeline).outcomes().values()) == {"ran"}
    return made


def audited(engine, *arguments, code=1):
    found = call(
        "cache", "audit", str(engine.root / "shadow.yaml"), "--store", str(engine.root / "store"), *arguments, code=code
    )
    return json.loads(found.stdout) if "--json" in arguments else found.stdout


def test_a_step_that_makes_something_else_each_time_is_named(engine):
    data = audited(engine, "--json")
    verdicts = {step["step"]: (step["differing"], step["error"]) for step in data["steps"]}
    assert verdicts == {"same": ([], None), "other": (["out"], None), "fails": ([], None)}
    text = audited(engine)
    assert "nondeterministic: out came out otherwise" in text
    assert "3 steps run again, 2 made the same" in text


def test_what_cannot_be_run_again_is_told_with_the_reason(engine):
    left_out = audited(engine, "--json")["left_out"]
    assert [line.partition(":")[0] for line in left_out] == ["secret", "copy"]
    nothing = timedelta(0)
    Pruner(engine.site.store, Policy(keep_last=0, evict=True), Guard(nothing, nothing, nothing)).prune()
    left_out = audited(engine, "--json", code=0)["left_out"]
    assert any("same: its outputs were evicted" in line for line in left_out)


def test_a_step_that_fails_now_is_told(engine):
    (engine.root / "no").touch()
    assert "failed: the command ended with exit code 1" in audited(engine)


def test_an_audit_leaves_nothing(engine):
    store = engine.site.store
    before, copied = store.sizes(""), (engine.root / "copy.txt").read_bytes()
    audited(engine)
    assert store.sizes("") == before
    assert store.names(layout.WORK) == []
    assert (engine.root / "copy.txt").read_bytes() == copied
    assert all(len(item.uses) == 1 for item in Inventory.read(store).items)


def test_a_sample_runs_only_so_many(engine):
    audit = auditing.audit(engine.site, engine.plan(engine.pipeline, "r2"), 1, lambda _: None)
    assert sum(map(len, audit)) == 1


def test_a_step_that_is_made_of_others_is_not_run_again(engine):
    plan = engine.plan(engine.pipeline, "r3")
    swept = {
        name: replace(decision, spec=replace(decision.spec, sweep=SweepSpec(({"c": 1},), "auc", "maximize")))
        for name, decision in plan.decisions.items()
        if name == "same"
    }
    audited_now, left_out = auditing.audit(engine.site, replace(plan, decisions=swept), None, lambda _: None)
    assert audited_now == []
    assert left_out == ["same: its trials or mini-batches run, and it makes no outputs of its own"]
