from __future__ import annotations

import os

import pytest

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.resolving.addresses import DEFAULT, Address
from airflow_mlpipe.resolving.logins import Login, no_logins


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch):
    for name in ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)


def test_the_usual_engine_is_taken_where_none_is_named(tmp_path, monkeypatch):
    assert Address.of(DockerCompute(), tmp_path, no_logins) == Address(DEFAULT)
    monkeypatch.setenv("DOCKER_HOST", "tcp://build:2375")
    assert Address.of(DockerCompute(), tmp_path, no_logins) == Address("tcp://build:2375")
    assert Address.of(DockerCompute(host="tcp://other:2375"), tmp_path, no_logins) == Address("tcp://other:2375")


def test_the_variables_of_the_docker_command_also_say_how_tls_is_spoken(tmp_path, monkeypatch):
    for name, value in (("HOST", "tcp://build:2376"), ("TLS_VERIFY", "1"), ("CERT_PATH", "/certs")):
        monkeypatch.setenv(f"DOCKER_{name}", value)
    tls = {"verify": True, "ca_cert": "/certs/ca.pem", "client_cert": ["/certs/cert.pem", "/certs/key.pem"]}
    assert Address.of(DockerCompute(), tmp_path, no_logins) == Address("tcp://build:2376", tls)
    assert Address.of(DockerCompute(host="tcp://other:2375"), tmp_path, no_logins) == Address("tcp://other:2375")


def test_certificates_are_files_of_the_target(tmp_path):
    target = DockerCompute(host="tcp://build:2376", tls={"ca": "/a/ca.pem", "cert": "/a/c.pem", "key": "/a/k.pem"})
    tls = {"verify": True, "ca_cert": "/a/ca.pem", "client_cert": ["/a/c.pem", "/a/k.pem"]}
    assert Address.of(target, tmp_path, no_logins) == Address("tcp://build:2376", tls)
    assert Address.of(DockerCompute(host="tcp://b:1", tls={"ca": "/ca"}), tmp_path, no_logins).tls == {
        "verify": True,
        "ca_cert": "/ca",
    }


def test_certificates_of_a_connection_are_written_where_only_this_user_reads_them(tmp_path):
    login = Login(extra={"ca": "the-ca", "cert": "the-cert", "key": "the-key"})
    target = DockerCompute(host="tcp://build:2376", tls={"connection": "engine"})
    tls = Address.of(target, tmp_path, {"engine": login}.__getitem__).tls
    assert tls
    assert tls["client_cert"] == [str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")]
    assert (tmp_path / "key.pem").read_text() == "the-key"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_another_authority_of_the_environment_does_not_count_while_an_engine_with_its_own_is_connected(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/other.pem")
    with Address("tcp://build:2376", {"verify": True}).own_certificates():
        assert "REQUESTS_CA_BUNDLE" not in os.environ
    assert os.environ["REQUESTS_CA_BUNDLE"] == "/other.pem"
    with Address("tcp://build:2375").own_certificates():
        assert os.environ["REQUESTS_CA_BUNDLE"] == "/other.pem"
