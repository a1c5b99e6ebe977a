from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import DockerCompute, Environment, KubernetesCompute
from airflow_mlpipe.definitions.workspace import ImageRegistry
from airflow_mlpipe.exceptions import DataError, EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving import registry
from airflow_mlpipe.resolving.images import Images, Pinned, check_known
from airflow_mlpipe.resolving.logins import Login, no_logins
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec
from tests.resolving.fakes import PASSWORD, USER, FakeEngine, FakeRegistry, served

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(registry, "_PAUSES", (0,))


@pytest.fixture
def shop():
    fake = FakeRegistry()
    with served(fake):
        yield fake


@pytest.fixture
def engine():
    fake = FakeEngine()
    with served(fake):
        yield fake


def on(engine, **fields):
    return DockerCompute(name="box", host=f"tcp://{engine.host}", **fields)


def pin(environment, target, *, logins=None, pushes=None, lock=None):
    login_of = no_logins if logins is None else logins.__getitem__
    return Images(login_of, pushes).pin(environment, target, lock)


def unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_rule_4_a_tag_is_pinned_to_the_digest_that_its_registry_says(shop):
    pushed = shop.push("team/train:1")
    image = f"{shop.host}/team/train"
    found = pin(Environment(image=f"{image}:1"), KubernetesCompute())
    assert found == Pinned(f"{image}@{pushed}", f"registry:{pushed}")


def test_the_image_of_the_target_serves_environments_that_name_none(shop):
    pushed = shop.push("team/train:1")
    assert pin(Environment(), KubernetesCompute(image=f"{shop.host}/team/train:1")).fact == f"registry:{pushed}"


def test_where_nobody_names_an_image_the_error_says_who_could():
    with pytest.raises(EnvironmentBuildError, match="compute target gpu names an image"):
        pin(Environment(), KubernetesCompute(name="gpu"))


def test_a_pinned_image_needs_no_registry():
    image = f"{unreachable()}/team/train"
    assert pin(Environment(image=f"{image}:1@{A}"), KubernetesCompute()) == Pinned(f"{image}@{A}", f"registry:{A}")


def test_rule_4_what_no_registry_has_is_the_engine_s_own_and_another_fact(shop, engine):
    image = f"{shop.host}/mine:1"
    engine.images[image] = A
    found = pin(Environment(image=image), on(engine))
    assert found == Pinned(A, f"engine:{A}")
    assert found.fact != f"registry:{A}"


def test_what_the_registry_has_wins_over_what_the_engine_has(shop, engine):
    image = f"{shop.host}/mine:1"
    engine.images[image] = A
    pushed = shop.push("mine:1")
    assert pin(Environment(image=image), on(engine)).fact == f"registry:{pushed}"


def test_rule_4_a_registry_that_does_not_answer_is_no_reason_to_take_what_the_engine_has(engine):
    image = f"{unreachable()}/mine:1"
    engine.images[image] = A
    with pytest.raises(ImageUnknownError, match="cannot be reached"):
        pin(Environment(image=image), on(engine))


def test_what_is_nowhere_is_unknown_in_the_words_of_the_registry(shop, engine):
    with pytest.raises(ImageUnknownError, match="has no image") as caught:
        pin(Environment(image=f"{shop.host}/mine:1"), on(engine))
    assert caught.value.absent


def test_an_engine_that_cannot_be_reached_does_not_hide_what_the_registry_said(shop):
    target = DockerCompute(name="box", host=f"tcp://{unreachable()}")
    with pytest.raises(ImageUnknownError, match=r"(?s)has no image.*engine.*cannot be reached"):
        pin(Environment(image=f"{shop.host}/mine:1"), target)


def test_a_cluster_never_takes_what_an_engine_of_this_machine_has(shop, engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{engine.host}")
    image = f"{shop.host}/mine:1"
    engine.images[image] = A
    with pytest.raises(ImageUnknownError, match="has no image"):
        pin(Environment(image=image), KubernetesCompute())
    assert engine.requests == []


def test_a_target_that_never_pulls_asks_its_engine_alone(engine):
    image = f"{unreachable()}/mine:1"
    engine.images[image] = A
    assert pin(Environment(image=image), on(engine, pull="never")) == Pinned(A, f"engine:{A}")
    with pytest.raises(ImageUnknownError, match="has no image other:1"):
        pin(Environment(image="other:1"), on(engine, pull="never"))


def test_the_id_of_an_engine_s_image_is_taken_at_its_word():
    assert pin(Environment(image=A), DockerCompute(host="tcp://nowhere")) == Pinned(A, f"engine:{A}")


def test_the_engine_of_the_environment_is_asked_where_the_target_names_none(shop, engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{engine.host}")
    image = f"{shop.host}/mine:1"
    engine.images[image] = B
    assert pin(Environment(image=image), DockerCompute()).fact == f"engine:{B}"


@pytest.mark.parametrize("where", ["environment", "docker", "kubernetes"])
def test_the_login_of_a_connection_opens_a_private_registry(shop, where):
    shop.push("team/train:1")
    shop.wants = "token"
    environment = Environment(image=f"{shop.host}/team/train:1", registry="hub" if where == "environment" else None)
    target = KubernetesCompute(registry="hub") if where == "kubernetes" else DockerCompute(connection="hub")
    assert pin(environment, target, logins={"hub": Login(shop.host, USER, PASSWORD)}).fact.startswith("registry:")


def test_a_login_that_is_named_for_an_image_must_be_for_its_registry(shop):
    logins = {"hub": Login("other.example.com", USER, PASSWORD)}
    environment = Environment(image=f"{shop.host}/team/train:1", registry="hub")
    with pytest.raises(EnvironmentBuildError, match=r"is for the registry other\.example\.com") as caught:
        pin(environment, DockerCompute(), logins=logins)
    assert PASSWORD not in str(caught.value)
    assert shop.requests == []


def test_the_login_of_a_target_is_not_shown_to_another_registry(shop):
    shop.push("team/train:1")
    logins = {"hub": Login("other.example.com", USER, PASSWORD)}
    pin(Environment(image=f"{shop.host}/team/train:1"), DockerCompute(connection="hub"), logins=logins)
    assert all("authorization" not in request.headers for request in shop.requests)


def test_outside_airflow_a_connection_is_refused_by_name():
    with pytest.raises(DataError, match="connection 'hub' is kept by Airflow"):
        Images(no_logins).begin(Environment(image="r.io/a", registry="hub"), DockerCompute(), None)


def test_each_image_is_asked_for_once_whoever_asks(shop):
    shop.push("team/train:1")
    images = Images(no_logins)
    target = KubernetesCompute()
    begun = [
        images.begin(Environment(name=name, image=f"{shop.host}/team/train:1"), target, None)
        for name in ("a", "b", "a")
    ]
    assert len({future.result().fact for future in begun}) == 1
    assert len(shop.requests) == 1


def test_one_engine_is_asked_once_for_all_its_targets(shop, engine):
    image = f"{shop.host}/mine:1"
    engine.images[image] = A
    images = Images(no_logins)
    for target in (on(engine), on(engine, memory="1Gi")):
        images.pin(Environment(image=image), target, None)
    assert len([request for request in engine.requests if request.path.endswith("/json")]) == 1


BUILD = {"base": "base:1", "apt": ["git"]}


def building(shop, **fields):
    return Environment(name="Train It", build={**BUILD, "base": f"{shop.host}/base:1"}, **fields)


def test_a_built_image_is_the_one_whose_name_says_what_is_in_it(shop, engine):
    shop.push("base:1")
    environment, pushes = building(shop), ImageRegistry(prefix=f"{shop.host}/team")
    with pytest.raises(ImageUnknownError, match="run `mlpipe build FILE --compute ") as caught:
        pin(environment, on(engine), pushes=pushes)
    assert caught.value.absent
    wanted = next(request.path for request in shop.requests if "train-it" in request.path)
    assert wanted.startswith("/v2/team/mlpipe/train-it/manifests/")
    pushed = shop.push(wanted.removeprefix("/v2/").replace("/manifests/", ":"), b"built")
    for target in (on(engine), KubernetesCompute()):
        assert pin(environment, target, pushes=pushes).fact == f"registry:{pushed}"


def test_a_built_image_that_is_pushed_nowhere_is_the_engine_s_own_and_no_registry_is_asked_for_it(shop, engine):
    shop.push("base:1")
    with pytest.raises(ImageUnknownError, match="is not built"):
        pin(building(shop), on(engine))
    asked = [request.path for request in engine.requests if request.path.endswith("/json")]
    name = asked[-1].partition("/images/")[2].removesuffix("/json")
    engine.images[name] = A
    assert pin(building(shop), on(engine)) == Pinned(A, f"engine:{A}")
    assert {request.path for request in shop.requests} == {"/v2/base/manifests/1"}


def test_a_built_image_is_another_one_when_its_base_its_packages_or_its_lock_are(shop, engine):
    def asked(environment, lock=None):
        with pytest.raises(ImageUnknownError) as caught:
            pin(environment, on(engine), lock=lock)
        return str(caught.value).partition(" is not built")[0].partition("image ")[2].partition(" of")[0]

    shop.push("base:1")
    names = [
        asked(building(shop)),
        asked(building(shop), A),
        asked(building(shop), B),
        asked(building(shop, python="py")),
    ]
    shop.push("base:1", b"moved")
    more = Environment(name="Train It", build={"base": f"{shop.host}/base:1", "apt": ["git", "jq"]})
    names += [asked(building(shop)), asked(more)]
    assert len(set(names)) == len(names)
    swapped = Environment(name="Train It", build={"base": f"{shop.host}/base:1", "apt": ["jq", "git"]})
    assert asked(swapped) == names[-1]


def test_a_base_that_cannot_be_found_out_leaves_the_image_unknown_and_does_not_ask_to_build(engine):
    environment = Environment(build={"base": f"{unreachable()}/base:1"})
    with pytest.raises(ImageUnknownError, match="cannot be reached") as caught:
        pin(environment, on(engine))
    assert "mlpipe build" not in str(caught.value)


STEP = StepSpec("p", "train", "command", target={"kind": "docker"})


def test_a_step_whose_image_is_unknown_is_not_launched_and_the_error_says_why():
    unknown = replace(STEP, environment=EnvironmentSpec(unknown="the registry r.io cannot be reached"))
    with pytest.raises(ImageUnknownError, match=r"image of step train is not known: the registry r\.io cannot be"):
        check_known(unknown)


def test_steps_with_an_image_and_steps_on_the_worker_are_launched():
    check_known(replace(STEP, environment=EnvironmentSpec(image=A)))
    check_known(replace(STEP, target={}))
