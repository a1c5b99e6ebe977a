from __future__ import annotations

import json

import pytest

from airflow_mlpipe.cli.building import build, lines, to_json
from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.resolving.building import Built
from tests.cli.helpers import opened
from tests.resolving.fakes import FakeEngine, FakeRegistry, served

FRESH = Built("train", "r.io/mlpipe/train:1", "registry:sha256:1", fresh=True, pushed=True)
OWN = Built("train", "mlpipe/train:1", "engine:sha256:1", fresh=True, pushed=False)
THERE = Built("train", "mlpipe/train:1", "engine:sha256:1", fresh=False, pushed=False)


@pytest.fixture
def engine(monkeypatch):
    shop, engine = FakeRegistry(), FakeEngine()
    with served(shop), served(engine):
        shop.push("base:1")
        engine.registry = shop
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{engine.host}")
        yield engine


def boxed(project, engine, compute="box"):
    build = f"{{build: '{engine.registry.host}/base:1'}}"
    project.edit("small.yaml", "name: small\n", f"name: small\ncompute: {compute}\nenvironment: {build}\n")
    project.write("mlpipe.yaml", "compute: {box: {kind: docker}}\n")
    return project


def test_the_environments_of_steps_in_containers_are_built_each_once(project, engine):
    boxed(project, engine)
    said = []
    (first,) = build(opened(project), said.append)
    (again,) = build(opened(project), said.append)
    assert (first.fresh, again.fresh, len(engine.contexts)) == (True, False, 1)
    assert said == ["Step 1", "Successfully built"]


def test_the_command_says_what_it_built(project, engine):
    boxed(project, engine)
    assert "mlpipe/environment:" in project.call("build").stdout
    (told,) = json.loads(project.call("build", "--json").stdout)
    assert (told["fresh"], told["pushed"], told["environment"]) == (False, False, "without a name")


def test_a_build_that_fails_is_told_and_not_traced(project, engine):
    boxed(project, engine)
    engine.breaks = "returned a non-zero code: 100"
    done = project.call("build", code=2)
    assert "mlpipe: cannot build mlpipe/environment:" in done.stderr
    assert "E: no such package" in done.stderr


def test_a_pipeline_on_the_worker_has_nothing_to_build(project):
    assert "has no image to build" in project.call("build").stdout


@pytest.mark.parametrize(
    ("built", "state"), [(FRESH, "was built and pushed"), (OWN, "was built"), (THERE, "is there already")]
)
def test_what_was_built_is_told_in_words_and_as_json(project, built, state):
    assert lines(opened(project), [built]) == [f"train: {built.image} {state}"]
    assert to_json([built])[0]["image"] == built.image


def test_a_workspace_names_where_images_go():
    assert Workspace(registry={"prefix": "r.io/team", "connection": "hub"}).registry.connection == "hub"
