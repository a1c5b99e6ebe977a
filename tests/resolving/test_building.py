from __future__ import annotations

import base64
import json

import pytest

from airflow_mlpipe.definitions import DockerCompute, Environment, KubernetesCompute
from airflow_mlpipe.definitions.workspace import ImageRegistry
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving.building import build_image
from airflow_mlpipe.resolving.images import Images
from airflow_mlpipe.resolving.logins import Login, no_logins
from airflow_mlpipe.store.snapshots import blob_digest
from tests.resolving.fakes import PASSWORD, USER, FakeEngine, FakeRegistry, served

APT = "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends"
PIP = (
    '"-m", "pip", "install", "--no-cache-dir", "--no-deps", "--disable-pip-version-check", '
    '"-r", "/tmp/requirements.lock"]'
)
LOCK = b"six==1.16.0\n"


@pytest.fixture
def shop():
    fake = FakeRegistry()
    with served(fake):
        fake.base = fake.push("base:1")
        yield fake


@pytest.fixture
def engine(shop, monkeypatch):
    fake = FakeEngine(registry=shop)
    with served(fake):
        monkeypatch.setenv("DOCKER_HOST", f"tcp://{fake.host}")
        yield fake


def environment(shop, **fields):
    return Environment(name="train", build={"base": f"{shop.host}/base:1", **fields.pop("build", {})}, **fields)


def built(given, *, target=None, pushes=None, logins=None, lock=LOCK, said=None):
    images = Images(no_logins if logins is None else logins.__getitem__, pushes)
    say = (lambda _: None) if said is None else said.append
    return build_image(images, given, target or DockerCompute(), lock, say)


def test_an_image_is_made_of_its_pinned_base_its_packages_and_its_lock(shop, engine):
    said = []
    made = built(environment(shop, build={"apt": ["jq", "git"]}, python="3.12"), said=said)
    (files,) = engine.contexts
    assert files["Dockerfile"].splitlines() == [
        f"FROM {shop.host}/base@{shop.base}",
        f"RUN apt-get update && {APT} git jq && rm -rf /var/lib/apt/lists/*",
        "COPY requirements.lock /tmp/requirements.lock",
        "ENV PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1",
        'RUN ["python3.12", ' + PIP,
    ]
    assert files["requirements.lock"] == "six==1.16.0\n"
    assert (made.fresh, made.pushed, made.fact) == (True, False, f"engine:{engine.images[made.image]}")
    assert said == ["Step 1", "Successfully built"]


def test_without_packages_and_requirements_an_image_is_its_base(shop, engine):
    built(environment(shop), lock=None)
    assert engine.contexts == [{"Dockerfile": f"FROM {shop.host}/base@{shop.base}\n"}]


def test_what_is_there_is_not_built_again(shop, engine):
    first = built(environment(shop))
    again = built(environment(shop))
    assert (first.fresh, again.fresh, len(engine.contexts)) == (True, False, 1)
    assert (again.image, again.fact) == (first.image, first.fact)


def test_another_lock_makes_another_image(shop, engine):
    names = {built(environment(shop), lock=lock).image for lock in (LOCK, b"six==1.17.0\n", None)}
    assert len(names) == len(engine.contexts) == 3


@pytest.mark.usefixtures("engine")
def test_what_was_built_is_what_a_step_is_bound_to(shop):
    made = built(environment(shop))
    assert Images(no_logins).pin(environment(shop), DockerCompute(), blob_digest(LOCK)).fact == made.fact


@pytest.mark.parametrize("target", [DockerCompute(), KubernetesCompute()], ids=["docker", "kubernetes"])
@pytest.mark.usefixtures("engine")
def test_an_image_is_pushed_where_the_workspace_says_and_known_by_the_registry_s_digest(shop, target):
    pushes = ImageRegistry(prefix=f"{shop.host}/team")
    made = built(environment(shop), target=target, pushes=pushes)
    assert made.image.startswith(f"{shop.host}/team/mlpipe/train:")
    assert (made.fresh, made.pushed, made.fact.partition(":")[0]) == (True, True, "registry")
    assert built(environment(shop), target=target, pushes=pushes).fresh is False
    assert Images(no_logins, pushes).pin(environment(shop), target, blob_digest(LOCK)).fact == made.fact


def test_an_image_is_pushed_with_the_login_of_the_workspace_s_connection(shop, engine):
    pushes = ImageRegistry(prefix=f"{shop.host}/team", connection="hub")
    built(environment(shop), pushes=pushes, logins={"hub": Login(shop.host, USER, PASSWORD)})
    (push,) = [request for request in engine.requests if request.path.endswith("/push")]
    auth = json.loads(base64.urlsafe_b64decode(push.headers["x-registry-auth"]))
    assert auth == {"username": USER, "password": PASSWORD}


def test_a_build_that_fails_says_so_with_its_last_lines(shop, engine):
    engine.breaks = "The command returned a non-zero code: 100"
    with pytest.raises(EnvironmentBuildError, match=r"(?s)cannot build mlpipe/train:.*code: 100.*E: no such package"):
        built(environment(shop))


def test_an_engine_that_ends_during_a_build_is_told_and_nothing_counts_as_built(shop, engine):
    engine.cuts = True
    with pytest.raises(EnvironmentBuildError, match="cannot build mlpipe/train:"):
        built(environment(shop))
    assert engine.images == {}


def test_an_engine_that_is_not_there_is_named(shop, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(EnvironmentBuildError, match=r"Docker engine .* cannot be reached"):
        built(environment(shop))


def test_a_base_that_is_nowhere_is_not_built_on(shop, engine):
    with pytest.raises(ImageUnknownError, match="has no image"):
        built(Environment(build=f"{shop.host}/other:1"))
    assert engine.contexts == []
