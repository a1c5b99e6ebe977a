from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
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


def test_certificates_that_airflow_keeps_lie_in_a_private_folder_while_they_are_needed(engine, monkeypatch):
    seen = []

    def config(*, ca_cert, client_cert, verify):
        files = [Path(path) for path in (ca_cert, *client_cert)]
        seen.append(
            (verify, [path.read_text() for path in files], {oct(path.stat().st_mode & 0o777) for path in files})
        )
        seen.extend(files)
        return False

    monkeypatch.setattr("docker.tls.TLSConfig", config)
    login = Login(extra={"ca": "the-ca", "cert": "the-cert", "key": "the-key"})
    target = DockerCompute(host=f"tcp://{engine.host}", tls={"connection": "engine"})
    with engine_of(target, {"engine": login}.__getitem__):
        assert seen[0] == (True, ["the-ca", "the-cert", "the-key"], {"0o600"})
        assert all(path.exists() for path in seen[1:])
    assert not any(path.exists() for path in seen[1:])


def test_an_engine_behind_tls_is_not_spoken_to_in_the_clear(engine):
    ca = ssl.get_default_verify_paths().cafile
    target = DockerCompute(host=f"tcp://{engine.host}", tls={"ca": ca} if ca else {"verify": False})
    with pytest.raises(EnvironmentBuildError, match="SSL"), engine_of(target, no_logins):
        pass
    assert engine.requests == []
