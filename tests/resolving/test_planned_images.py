"""What a plan makes of steps in containers: rule 4, from the registry to the reason."""

from __future__ import annotations

import time

import pytest

from airflow_mlpipe.definitions import Environment, Workspace
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.planning.explain import Reason, summary
from airflow_mlpipe.resolving import registry
from airflow_mlpipe.resolving.environments import to_lock
from airflow_mlpipe.resolving.locks import lock_environments
from airflow_mlpipe.resolving.planner import RunPlan, make_plan
from airflow_mlpipe.store import snapshots
from tests.resolving.fakes import FakeRegistry, served
from tests.resolving.projects import Project, command, script

POD = {"kind": "kubernetes", "namespace": "ml"}


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.setattr(registry, "_PAUSES", (0,))
    fake = FakeRegistry()
    with served(fake):
        fake.push("train:1")
        yield fake


@pytest.fixture
def project(tmp_path, monkeypatch, shop):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    project = Project(tmp_path, Workspace(compute={"pod": {**POD, "image": f"{shop.host}/train:1"}}))
    project.write("src/train.py")
    return project


def plan(project, pipeline, run="r1"):
    return make_plan(project.site, pipeline, run, Values())


def one(project, **fields):
    return project.pipeline(command("train", outputs=["model"], compute="pod", **fields))


def run_all(project, pipeline):
    """Leave the record of the step, and what it was made from, as a run does."""
    made = project.made(plan(project, pipeline, "r0").decisions["train"].spec)
    plan(project, pipeline, "r0")
    return made


def test_a_step_in_a_container_is_bound_to_the_image_and_the_target(project, shop):
    spec = plan(project, one(project)).decisions["train"].spec
    assert spec.environment.image.startswith(f"{shop.host}/train@sha256:")
    assert spec.target == {**POD, "name": "pod"}
    assert spec.environment.observe is False


def test_rule_3_where_a_step_runs_and_with_how_much_is_no_reason_to_run(project):
    run_all(project, one(project))
    workspace = project.workspace
    other = workspace.compute["pod"].model_copy(update={"namespace": "other", "queue": "gpus"})
    project.workspace = workspace.model_copy(update={"compute": {**workspace.compute, "pod": other}})
    assert plan(project, one(project, resources={"memory": "8Gi"})).decisions["train"].choice == "reuse"


def test_rule_4_a_tag_that_moves_is_a_reason_to_run(project, shop):
    pipeline = one(project)
    run_all(project, pipeline)
    assert plan(project, pipeline).decisions["train"].choice == "reuse"
    shop.push("train:1", b"moved")
    decision = plan(project, pipeline).decisions["train"]
    assert decision.choice == "run"
    (reason,) = decision.reasons
    assert (reason.component, reason.what) == ("environment", "image")
    assert summary([reason]).startswith("environment image: registry:")


def test_rule_4_a_registry_that_does_not_answer_makes_a_miss_with_that_reason(project, shop):
    pipeline = one(project)
    run_all(project, pipeline)
    shop.failures = [503] * 9
    decision = plan(project, pipeline).decisions["train"]
    assert (decision.choice, decision.fingerprint, decision.found) == ("run", None, None)
    assert [reason.component for reason in decision.reasons] == ["image"]
    assert summary(decision.reasons) == (
        f"the registry {shop.host} does not say which image {shop.host}/train:1 is: it answers HTTP 503"
    )
    shop.failures.clear()
    assert plan(project, pipeline).decisions["train"].choice == "reuse"


def test_rule_4_what_is_declared_needs_no_digest_to_be_reused(project, shop):
    pipeline = one(project, environment=Environment(compare="declared"))
    run_all(project, pipeline)
    shop.failures = [503] * 9
    assert plan(project, pipeline).decisions["train"].choice == "reuse"


def test_rule_4_under_a_declared_policy_the_worker_and_a_container_share(project):
    declared = Environment(compare="declared", variables={"A": "1"})
    project.made(plan(project, one(project, environment=declared)).decisions["train"].spec)
    local = project.pipeline(command("train", outputs=["model"], environment=declared))
    decision = plan(project, local).decisions["train"]
    assert (decision.choice, decision.spec.target) == ("reuse", {})


def test_what_depends_on_a_step_with_an_unknown_image_decides_in_its_turn(project, shop):
    shop.failures = [503] * 9
    pipeline = project.pipeline(
        command("train", outputs=["model"], compute="pod"),
        command("use", inputs={"model": "${{ steps.train.outputs.model }}"}),
    )
    decisions = plan(project, pipeline).decisions
    assert [decision.choice for decision in decisions.values()] == ["run", "depends"]


def test_a_plan_keeps_the_image_the_target_and_why_an_image_is_unknown(project, shop):
    shop.failures = [503] * 3
    pipeline = project.pipeline(
        command("a", compute="pod", environment=Environment(image=f"{shop.host}/other:1")),
        command("b", compute="pod", environment=Environment(image=f"{shop.host}/x@sha256:{'a' * 64}")),
    )
    made = plan(project, pipeline)
    kept = RunPlan.from_json(made.to_json())
    assert kept.tasks == made.tasks
    assert kept.tasks["a"].spec.environment.unknown
    assert kept.decisions["a"].reasons == (Reason("image", kept.tasks["a"].spec.environment.unknown),)


def test_an_image_is_asked_for_once_for_all_steps_of_a_plan(project, shop):
    steps = [command(name, compute="pod", resources={"cpus": cpus}) for name, cpus in (("a", 1), ("b", 2))]
    plan(project, project.pipeline(*steps))
    assert len(shop.requests) == 1


def test_images_are_asked_for_side_by_side_while_code_is_read(project, shop, monkeypatch):
    answer = shop.answer
    monkeypatch.setattr(shop, "answer", lambda request: time.sleep(0.3) or answer(request))
    names = [f"i{number}" for number in range(6)]
    for name in names:
        shop.push(f"{name}:1")
    steps = [command(name, compute="pod", environment=Environment(image=f"{shop.host}/{name}:1")) for name in names]
    began = time.monotonic()
    plan(project, project.pipeline(*steps))
    assert time.monotonic() - began < 1.5  # 1.8 s one after the other


def test_the_lock_of_a_built_image_is_packed_for_whoever_explains_it(project, shop):
    build = {"base": f"{shop.host}/train:1"}
    environment = Environment(requirements="six==1.16.0", build=build)
    lock_environments(project.root, [to_lock(environment, project.root, container=True)])
    project.workspace = Workspace(compute={"box": {"kind": "docker", "host": "tcp://127.0.0.1:9"}})
    pipeline = project.pipeline(script("train", compute="box", environment=environment))
    spec = plan(project, pipeline).decisions["train"].spec
    assert snapshots.get_blob(project.site.store, spec.environment.lock) == b"six==1.16.0\n"
    assert "cannot be reached" in spec.environment.unknown
