from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker.engine import DEFAULT, Address, connect


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    for name in ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)


def test_the_usual_engine_is_taken_where_none_is_named(tmp_path, monkeypatch):
    assert Address.of(DockerCompute(), tmp_path) == Address(DEFAULT)
    monkeypatch.setenv("DOCKER_HOST", "tcp://build:2375")
    assert Address.of(DockerCompute(), tmp_path) == Address("tcp://build:2375")
    assert Address.of(DockerCompute(host="tcp://other:2375"), tmp_path) == Address("tcp://other:2375")


def test_the_variables_of_the_docker_command_also_say_how_tls_is_spoken(tmp_path, monkeypatch):
    for name, value in (("HOST", "tcp://build:2376"), ("TLS_VERIFY", "1"), ("CERT_PATH", "/certs")):
        monkeypatch.setenv(f"DOCKER_{name}", value)
    tls = {"verify": True, "ca_cert": "/certs/ca.pem", "client_cert": ["/certs/cert.pem", "/certs/key.pem"]}
    assert Address.of(DockerCompute(), tmp_path) == Address("tcp://build:2376", tls)
    assert Address.of(DockerCompute(host="tcp://other:2375"), tmp_path) == Address("tcp://other:2375")


def test_certificates_are_files_of_the_target(tmp_path):
    target = DockerCompute(host="tcp://build:2376", tls={"ca": "/a/ca.pem", "cert": "/a/c.pem", "key": "/a/k.pem"})
    tls = {"verify": True, "ca_cert": "/a/ca.pem", "client_cert": ["/a/c.pem", "/a/k.pem"]}
    assert Address.of(target, tmp_path) == Address("tcp://build:2376", tls)
    assert Address.of(DockerCompute(host="tcp://b:1", tls={"ca": "/ca"}), tmp_path).tls == {
        "verify": True,
        "ca_cert": "/ca",
    }


def test_certificates_of_a_connection_are_written_where_only_this_user_reads_them(tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_mlpipe.hooks.connections.secret", lambda reference: f"PEM of {reference}")
    target = DockerCompute(host="tcp://build:2376", tls={"connection": "engine"})
    tls = Address.of(target, tmp_path).tls
    assert tls
    assert tls["client_cert"] == [str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")]
    assert (tmp_path / "key.pem").read_text() == "PEM of connection:engine.key"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_certificates_that_are_not_there_are_named(tmp_path):
    with pytest.raises(StepError, match=r"no Docker engine can be reached at tcp://127.0.0.1:9"):
        connect(Address("tcp://127.0.0.1:9", {"verify": True, "ca_cert": str(tmp_path / "no.pem")}), None)
