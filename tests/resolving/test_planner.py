from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import DataChangedError, DataError, PlanError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import Values, components, input_from
from airflow_mlpipe.planning.explain import Reason, sentence
from airflow_mlpipe.resolving import planner
from airflow_mlpipe.resolving.inventory import Inventory
from airflow_mlpipe.resolving.planner import RunPlan, make_plan
from airflow_mlpipe.store import layout, runs, snapshots
from airflow_mlpipe.store.log import Log, evict
from tests.resolving.projects import Project, command, script


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    project = Project(tmp_path)
    for name in ("prepare", "train"):
        project.write(f"{name}/{name}.py")
    project.write("data/raw.csv", "1,2\n")
    return project


@pytest.fixture
def pipeline(project):
    """`report` is declared first and runs last."""
    return project.pipeline(
        command("report", outputs=["page"], inputs={"model": "${{ steps.train.outputs.model }}"}),
        script("prepare", source_directory="prepare", inputs={"raw": "data/raw.csv"}, outputs=["clean"]),
        script(
            "train",
            source_directory="train",
            inputs={"data": "${{ steps.prepare.outputs.clean }}"},
            outputs=["model"],
            arguments=["${{ parameters.c }}"],
        ),
        command("alone", outputs=["x"]),
        parameters={"c": 1.0},
    )


VALUES = Values({"c": 1.0})


def plan(project, pipeline, run="r1", values=VALUES, **options):
    return make_plan(project.site, pipeline, run, values, **options)


def choices(made):
    return {name: decision.choice for name, decision in made.decisions.items()}


def run_all(project, pipeline, values=VALUES):
    """Leave a record of each step, as a run that ran them all does."""
    made = {}
    for step in ("prepare", "train", "report", "alone"):
        spec = project.spec(pipeline, step, values)
        known = {
            name: input_from(made[given.producer[0]], given, project.site.store.uri)
            for name, given in spec.inputs.items()
            if given.producer
        }
        record = project.made(spec.with_inputs(known))
        (output,) = record.body["outputs"].values()
        made[step] = planner.load_output(output)
        key = {"fingerprint": record.fingerprint, "components": components(spec.with_inputs(known)), "run": "r0"}
        runs.write_latest(project.site.store, "p", step, key)


def stored(project):
    return sorted(project.site.store.sizes(""))


def test_a_first_plan_runs_what_it_can_decide_and_the_rest_depends(project, pipeline):
    made = plan(project, pipeline)
    assert choices(made) == {"report": "depends", "prepare": "run", "train": "depends", "alone": "run"}
    assert made.decisions["report"].depends_on == ("train",)
    assert made.decisions["alone"].reasons == (Reason("record", "it has not run before"),)
    assert made.reused() == {}


def test_what_has_run_with_all_this_is_reused_as_a_whole(project, pipeline):
    run_all(project, pipeline)
    made = plan(project, pipeline)
    assert set(choices(made).values()) == {"reuse"}
    assert list(made.reused()) == ["report", "prepare", "train", "alone"]


def test_an_edit_concerns_its_step_and_what_follows(project, pipeline):
    run_all(project, pipeline)
    project.write("train/train.py", "2\n")
    made = plan(project, pipeline)
    assert choices(made) == {"report": "depends", "prepare": "reuse", "train": "run", "alone": "reuse"}
    assert [reason.component for reason in made.decisions["train"].reasons] == ["code"]


def test_a_changed_parameter_is_named_and_keeps_what_does_not_use_it(project, pipeline):
    run_all(project, pipeline)
    made = plan(project, pipeline, values=Values({"c": 0.5}))
    assert choices(made) == {"report": "depends", "prepare": "reuse", "train": "run", "alone": "reuse"}
    assert [sentence(reason) for reason in made.decisions["train"].reasons] == ["parameter c: 1.0 -> 0.5"]
    assert made.parameters == {"c": 0.5}


def test_rule_2_a_plan_changes_no_code_though_its_store_lies_in_the_source_directory(project):
    pipeline = project.pipeline(script("prepare", source_directory=".", script_name="prepare/prepare.py"))
    first, second = (plan(project, pipeline, run).decisions["prepare"].spec.code for run in ("r1", "r2"))
    assert stored(project)
    assert first == second


def test_rule_11_a_step_that_is_to_be_regenerated_runs(project, pipeline):
    run_all(project, pipeline)
    made = plan(project, pipeline, regenerate=["train", "report"])
    assert choices(made) == {"report": "run", "prepare": "reuse", "train": "run", "alone": "reuse"}
    assert made.decisions["report"].depends_on == ("train",)


def test_what_waits_for_a_task_of_the_users_own_is_decided_in_its_turn(project, pipeline):
    run_all(project, pipeline)
    made = plan(project, pipeline, waits={"train": ("users_download",)})
    assert choices(made) == {"report": "depends", "prepare": "reuse", "train": "depends", "alone": "reuse"}
    assert made.decisions["train"].depends_on == ("users_download",)


def test_a_plan_is_kept_and_read_back(project, pipeline):
    run_all(project, pipeline)
    made = plan(project, pipeline, values=Values({"c": 0.5}))
    back = RunPlan.from_json(runs.read_plan(project.site.store, "p", "r1"))
    assert (back.pipeline, back.run, back.definition, back.id) == ("p", "r1", pipeline.digest, made.id)
    assert (back.tasks, back.parameters) == (made.tasks, {"c": 0.5})
    assert list(back.decisions) == list(made.decisions)
    for name, decision in made.decisions.items():
        assert back.decisions[name] == replace(decision, spec=made.tasks[name].spec)
    assert back.reused() == made.reused()


def test_a_plan_survives_json(project, pipeline):
    made = plan(project, pipeline, dry=True)
    assert RunPlan.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))).tasks == made.tasks


def test_a_plan_of_a_newer_version_is_refused_by_name(project, pipeline):
    data = {**plan(project, pipeline, dry=True).to_json(), "format": 2}
    with pytest.raises(PlanError, match="the plan of run 'r1' has format 2; this airflow-mlpipe reads 1"):
        RunPlan.from_json(data)


def test_two_plans_of_one_run_can_be_told_apart(project, pipeline):
    assert plan(project, pipeline).id != plan(project, pipeline).id


def test_the_code_of_what_will_or_may_run_is_kept(project, pipeline):
    made = plan(project, pipeline)
    assert snapshots.exists(project.site.store, made.tasks["train"].spec.code)
    assert snapshots.exists(project.site.store, made.tasks["prepare"].spec.code)


def test_the_code_of_what_is_reused_is_not_packed(project, pipeline):
    run_all(project, pipeline)
    plan(project, pipeline)
    assert project.site.store.names("snapshots") == []


def test_a_dry_plan_writes_nothing(project, pipeline):
    plan(project, pipeline, dry=True)
    assert not (project.root / "store").exists()
    run_all(project, pipeline)
    before = stored(project)
    plan(project, pipeline, dry=True)
    project.write("train/train.py", "2\n")
    plan(project, pipeline, dry=True)
    assert stored(project) == before


def test_a_plan_decides_the_same_dry_or_not(project, pipeline):
    run_all(project, pipeline)
    project.write("train/train.py", "2\n")
    dry, wet = plan(project, pipeline, dry=True), plan(project, pipeline)
    assert dry.decisions == wet.decisions


def test_a_run_is_pinned_before_anything_is_looked_up(project, pipeline, monkeypatch):
    run_all(project, pipeline)
    store, read = project.site.store, Log.read
    pinned = []
    monkeypatch.setattr(Log, "read", lambda *given: pinned.append(runs.read_pin(store, "p", "r1")) or read(*given))
    plan(project, pipeline)
    assert {pin["run"] for pin in pinned} == {"r1"}
    assert pinned[0]["fingerprints"] == sorted(fingerprint(components(d)) for d in specs(project, pipeline))


def specs(project, pipeline):
    return [decision.spec for decision in plan(project, pipeline, dry=True).decisions.values()]


def test_each_log_is_read_once(project, pipeline, monkeypatch):
    run_all(project, pipeline)
    read, reads = Log.read, []
    monkeypatch.setattr(Log, "read", lambda store, key: reads.append(key) or read(store, key))
    plan(project, pipeline)
    assert len(reads) == len(set(reads)) == 4


def test_rule_7_a_damaged_record_is_voided_unless_the_plan_is_dry(project, pipeline):
    run_all(project, pipeline)
    found = plan(project, pipeline, dry=True).decisions["alone"]
    (project.root / "store" / found.found.outputs["x"].path).unlink()
    for dry, entries in ((True, ["commit"]), (False, ["commit", "void"])):
        decision = plan(project, pipeline, dry=dry).decisions["alone"]
        assert (decision.choice, decision.reasons[0].what) == ("run", "output x of the earlier run: it is gone")
        assert [entry.kind for entry in Log.read(project.site.store, found.fingerprint).entries] == entries


def test_what_a_reused_step_was_made_from_is_what_the_next_plan_compares_with(project, pipeline):
    run_all(project, pipeline)
    project.site.store.remove("latest")
    plan(project, pipeline)
    made = plan(project, pipeline, "r2", Values({"c": 0.5}))
    assert [sentence(reason) for reason in made.decisions["train"].reasons] == ["parameter c: 1.0 -> 0.5"]


def edits(project, monkeypatch, times):
    """Edit a file after it was read for a plan and before it is packed, so many times."""
    write, edited = runs.write_pin, []

    def editing(*given):
        if len(edited) < times:
            edited.append(project.write("train/train.py", f"edit {len(edited)}\n"))
        write(*given)

    monkeypatch.setattr(planner.runs, "write_pin", editing)


def test_a_file_edited_while_it_is_planned_is_planned_as_it_was_left(project, pipeline, monkeypatch):
    edits(project, monkeypatch, 2)
    made = plan(project, pipeline)
    code = made.tasks["train"].spec.code
    assert code == project.spec(pipeline, "train", VALUES).code
    snapshots.unpack(project.site.store, code, project.root / "unpacked")
    assert (project.root / "unpacked" / "train.py").read_text() == "edit 1\n"


def test_a_file_that_is_edited_all_the_time_is_named_and_there_is_no_plan(project, pipeline, monkeypatch):
    edits(project, monkeypatch, 99)
    with pytest.raises(DataChangedError, match=r"train\.py"):
        plan(project, pipeline)
    assert runs.read_plan(project.site.store, "p", "r1") is None


def test_data_that_is_missing_is_named_and_there_is_no_plan(project, pipeline):
    (project.root / "data" / "raw.csv").unlink()
    with pytest.raises(DataError, match=r"there is no data at file:///.*raw\.csv"):
        plan(project, pipeline)
    assert runs.read_plan(project.site.store, "p", "r1") is None


def test_data_of_a_step_that_decides_in_its_turn_is_not_looked_for(project, pipeline):
    late = command("late", inputs={"made": "data/made-by-alone.csv"}, run_after=["alone"])
    made = plan(project, project.pipeline(*pipeline.steps, late, parameters={"c": 1.0}))
    assert choices(made)["late"] == "depends"


def test_a_plan_lies_where_its_run_looks_for_it(project, pipeline):
    plan(project, pipeline, "manual__2026-01-01T00:00:00+00:00")
    assert project.site.store.exists(layout.plan("p", "manual__2026-01-01T00:00:00+00:00"))


def evict_all(project):
    for item in Inventory.read(project.site.store).items:
        evict(project.site.store, item.fingerprint, item.record.number, "for the room")
        project.site.store.remove(item.folder)


def test_rule_12_a_pipeline_whose_outputs_were_all_evicted_is_reused_where_nobody_outside_reads_them(project, pipeline):
    run_all(project, pipeline)
    evict_all(project)
    assert set(choices(plan(project, pipeline, outside=())).values()) == {"reuse"}
    assert choices(plan(project, pipeline)) == {
        "report": "depends",
        "prepare": "run",
        "train": "depends",
        "alone": "run",
    }


def test_rule_12_the_evicted_outputs_of_an_asset_are_made_again(project):
    pipeline = project.pipeline(command("alone", outputs={"x": {"asset": "numbers"}}))
    project.made(project.spec(pipeline, "alone"))
    evict_all(project)
    assert choices(plan(project, pipeline, outside=())) == {"alone": "run"}


def test_rule_12_evicted_outputs_are_made_again_for_the_step_that_changed(project, pipeline):
    run_all(project, pipeline)
    evict_all(project)
    made = plan(project, pipeline, values=Values({"c": 2.0}), outside=())
    assert choices(made) == {"report": "depends", "prepare": "run", "train": "depends", "alone": "reuse"}
    assert sentence(made.decisions["prepare"].reasons[0]) == "its outputs were evicted, and train needs them"


def test_rule_12_a_kept_plan_says_which_outputs_were_evicted(project, pipeline):
    run_all(project, pipeline)
    evict_all(project)
    made = plan(project, pipeline, outside=())
    kept = RunPlan.from_json(runs.read_plan(project.site.store, "p", "r1"))
    assert kept.decisions["alone"].found == made.decisions["alone"].found
    assert kept.decisions["alone"].found.evicted


def test_the_pin_of_a_run_says_when_it_began(project, pipeline):
    plan(project, pipeline)
    assert runs.read_pin(project.site.store, "p", "r1")["time"].endswith("+00:00")
