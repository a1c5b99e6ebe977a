from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving import engines
from airflow_mlpipe.resolving.engines import engine_id, engine_of
from airflow_mlpipe.resolving.logins import Login, no_logins
from tests.resolving.fakes import FakeEngine, served

A = "sha256:" + "a" * 64


@pytest.fixture
def engine():
    fake = FakeEngine(images={"train:1": A})
    with served(fake):
        yield fake


def test_an_engine_says_which_id_an_image_has(engine):
    target = DockerCompute(host=f"tcp://{engine.host}")
    assert engine_id(target, "train:1", no_logins) == A
    assert engine_id(target, "train:2", no_logins) is None


def test_without_a_host_the_engine_of_the_environment_is_spoken_to(engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{engine.host}")
    assert engine_id(None, "train:1", no_logins) == A
    assert engine_id(DockerCompute(), "train:1", no_logins) == A


def test_an_engine_that_is_not_there_is_named_with_a_remedy():
    target = DockerCompute(host="tcp://127.0.0.1:9")
    with (
        pytest.raises(EnvironmentBuildError, match=r"tcp://127\.0\.0\.1:9 cannot be reached: .*: start it, or correct"),
        engine_of(target, no_logins),
    ):
        pass
    with pytest.raises(ImageUnknownError, match="cannot be reached"):
        engine_id(target, "train:1", no_logins)


def test_an_engine_that_fails_leaves_the_image_unknown(engine, monkeypatch):
    answer = engine.answer
    broken = lambda asked: (500, {}, b"") if asked.path.endswith("/json") else answer(asked)  # noqa: E731
    monkeypatch.setattr(engine, "answer", broken)
    with pytest.raises(ImageUnknownError, match="does not say which image train:1 is"):
        engine_id(DockerCompute(host=f"tcp://{engine.host}"), "train:1", no_logins)


def test_certificates_that_airflow_keeps_lie_in_a_private_folder_while_they_are_needed(monkeypatch):
    seen = []

    class Config:
        def __init__(self, **fields):
            seen.append({name: Path(path) for name, path in fields.items() if isinstance(path, str)})
            seen.append([Path(path) for path in fields["client_cert"]])
            modes = {oct(path.stat().st_mode & 0o777) for path in (*seen[1], seen[0]["ca_cert"])}
            texts = [path.read_text() for path in (seen[0]["ca_cert"], *seen[1])]
            assert (modes, texts) == ({"0o600"}, ["the-ca", "the-cert", "the-key"])

    monkeypatch.setattr("docker.tls.TLSConfig", Config)
    login = Login(extra={"ca": "the-ca", "cert": "the-cert", "key": "the-key"})
    with engines.ExitStack() as stack:
        engines._tls(DockerCompute(tls={"connection": "engine"}).tls, lambda _: login, stack)
    assert not seen[0]["ca_cert"].exists()


def test_an_engine_behind_tls_is_not_spoken_to_in_the_clear(engine):
    ca = ssl.get_default_verify_paths().cafile
    target = DockerCompute(host=f"tcp://{engine.host}", tls={"ca": ca} if ca else {"verify": False})
    with pytest.raises(EnvironmentBuildError, match="SSL"), engine_of(target, no_logins):
        pass
    assert engine.requests == []
