"""Images of a real engine and a real registry: found out, pinned, built, pushed."""

from __future__ import annotations

import uuid

import pytest

from airflow_mlpipe.definitions import DockerCompute, Environment, KubernetesCompute, Workspace
from airflow_mlpipe.definitions.workspace import ImageRegistry
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.planning.bind import Values
from airflow_mlpipe.planning.explain import summary
from airflow_mlpipe.resolving.building import build_image
from airflow_mlpipe.resolving.images import Images
from airflow_mlpipe.resolving.logins import Login, no_logins
from airflow_mlpipe.resolving.planner import make_plan
from tests.engine import BUSYBOX, STATIC
from tests.integration.docker.registry import PASSWORD, USER, serving
from tests.resolving.projects import Project, command

pytestmark = pytest.mark.docker

AUTH = {"username": USER, "password": PASSWORD}


@pytest.fixture
def shop(tmp_path):
    with serving(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def private(tmp_path):
    with serving(tmp_path / "registry", private=True) as registry:
        yield registry


def push(engine, registry, image, repository="team/train", auth=None):
    """Push an image of the engine under the tag 1."""
    name = f"{registry.host}/{repository}"
    engine.tag(image, f"{name}:1")
    with engine.client() as client:
        answers = list(client.push(name, "1", stream=True, decode=True, auth_config=auth))
        client.remove_image(f"{name}:1")
    assert not [answer for answer in answers if "error" in answer]
    return next(answer["aux"]["Digest"] for answer in answers if "aux" in answer)


def box(engine, **fields):
    return DockerCompute(name="box", host=engine.host, **fields)


def test_a_tag_of_a_real_registry_has_the_digest_that_its_push_said(engine, shop):
    pushed = push(engine, shop, BUSYBOX)
    found = Images(no_logins).pin(Environment(image=f"{shop.host}/team/train:1"), KubernetesCompute(), None)
    assert (found.reference, found.fact) == (f"{shop.host}/team/train@{pushed}", f"registry:{pushed}")


def test_what_is_pinned_can_be_pulled_and_run(engine, shop):
    push(engine, shop, BUSYBOX)
    found = Images(no_logins).pin(Environment(image=f"{shop.host}/team/train:1"), box(engine), None)
    with engine.client() as client:
        client.pull(found.reference)
        assert client.inspect_image(found.reference)["RepoDigests"] == [found.reference]
        client.remove_image(found.reference)


def test_an_image_that_only_the_engine_has_is_known_by_its_id(engine, shop):
    engine.tag(BUSYBOX, f"{shop.host}/mine:1")
    found = Images(no_logins).pin(Environment(image=f"{shop.host}/mine:1"), box(engine), None)
    assert (found.reference, found.fact) == (engine.id_of(BUSYBOX), f"engine:{engine.id_of(BUSYBOX)}")


def test_a_private_registry_opens_to_the_login_and_to_nobody_else(engine, private):
    pushed = push(engine, private, BUSYBOX, auth=AUTH)
    logins = {"hub": Login(private.host, USER, PASSWORD), "wrong": Login(private.host, USER, "no")}
    named = {name: Environment(image=f"{private.host}/team/train:1", registry=name) for name in (None, *logins)}
    assert Images(logins.__getitem__).pin(named["hub"], KubernetesCompute(), None).fact == f"registry:{pushed}"
    for name in (None, "wrong"):
        with pytest.raises(ImageUnknownError, match="does not show") as caught:
            Images(logins.__getitem__).pin(named[name], KubernetesCompute(), None)
        assert PASSWORD not in str(caught.value)


def test_rule_4_a_tag_that_moves_runs_again_and_a_registry_that_is_gone_is_the_reason(engine, shop, tmp_path):
    push(engine, shop, BUSYBOX)
    pod = {"kind": "kubernetes", "image": f"{shop.host}/team/train:1"}
    project = Project(tmp_path / "project", Workspace(compute={"pod": pod}))
    pipeline = project.pipeline(command("train", outputs=["model"], compute="pod"))

    def decision():
        return make_plan(project.site, pipeline, "r1", Values()).decisions["train"]

    project.made(decision().spec)
    assert decision().choice == "reuse"
    push(engine, shop, STATIC)
    assert decision().choice == "run"
    push(engine, shop, BUSYBOX)
    assert decision().choice == "reuse"
    shop.stop()
    assert decision().choice == "run"
    assert "cannot be reached" in summary(decision().reasons)
    shop.start()
    assert decision().choice == "reuse"


def test_an_image_is_built_once_pushed_and_pinned(engine, private):
    push(engine, private, BUSYBOX, "base", AUTH)
    logins = {"hub": Login(private.host, USER, PASSWORD)}
    pushes = ImageRegistry(prefix=f"{private.host}/team", connection="hub")
    environment = Environment(name=f"e-{uuid.uuid4().hex[:8]}", build=f"{private.host}/base:1", registry="hub")

    def built(lines=None):
        images = Images(logins.__getitem__, pushes)
        return build_image(images, environment, box(engine), None, [].append if lines is None else lines.append)

    lines = []
    first = built(lines)
    again = built()
    assert (first.fresh, first.pushed, again.fresh) == (True, True, False)
    assert any(line.startswith("Successfully built") for line in lines)
    found = Images(logins.__getitem__, pushes).pin(environment, KubernetesCompute(), None)
    assert first.fact == again.fact == found.fact
    with engine.client() as client:
        client.remove_image(first.image, force=True)


def test_a_build_that_cannot_work_says_what_the_engine_printed(engine, shop):
    push(engine, shop, BUSYBOX, "base")
    environment = Environment(name="broken", build={"base": f"{shop.host}/base:1", "apt": ["jq"]})
    with pytest.raises(EnvironmentBuildError, match=r"(?s)cannot build mlpipe/broken:.*apt-get"):
        build_image(Images(no_logins), environment, box(engine), None, lambda _: None)


def test_a_built_image_without_a_registry_is_the_engine_s_own(engine, shop):
    push(engine, shop, BUSYBOX, "base")
    environment = Environment(name=f"e-{uuid.uuid4().hex[:8]}", build=f"{shop.host}/base:1")
    made = build_image(Images(no_logins), environment, box(engine), None, lambda _: None)
    found = Images(no_logins).pin(environment, box(engine), None)
    assert (made.pushed, found.fact, found.reference) == (False, made.fact, engine.id_of(made.image))
    with engine.client() as client:
        client.remove_image(made.image, force=True)
