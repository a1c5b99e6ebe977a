from __future__ import annotations

import json
import os

import pytest
from airflow.sdk.log import redact

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.hooks.connections import login, secret, storage_options


@pytest.fixture(autouse=True)
def nobody_elses_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith("AIRFLOW"):
            monkeypatch.delenv(name)


@pytest.fixture
def connection(monkeypatch):
    """Make the connection `lake` of Airflow."""

    def make(**fields):
        monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "generic", **fields}))

    return make


@pytest.mark.parametrize("kind", ["aws", "s3"])
def test_keys_of_s3_have_the_names_that_its_filesystem_takes(connection, kind):
    connection(conn_type=kind, login="the-key", password="the-secret")
    assert storage_options("lake") == {"key": "the-key", "secret": "the-secret"}


@pytest.mark.parametrize("kind", ["wasb", "azure"])
def test_the_account_of_azure_has_the_names_that_its_filesystem_takes(connection, kind):
    connection(conn_type=kind, login="the-account", password="the-account-key")
    assert storage_options("lake") == {"account_name": "the-account", "account_key": "the-account-key"}


def test_an_endpoint_of_s3_goes_where_its_filesystem_looks_for_it(connection):
    connection(conn_type="aws", extra={"endpoint_url": "http://127.0.0.1:9000"})
    assert storage_options("lake") == {"client_kwargs": {"endpoint_url": "http://127.0.0.1:9000"}}


def test_storage_options_of_the_extra_are_taken_as_they_are_and_win(connection):
    options = {"key": "another", "anon": False, "config_kwargs": {"retries": {"max_attempts": 5}}}
    connection(conn_type="s3", login="the-key", password="the-secret", extra={"storage_options": options})
    assert storage_options("lake") == {"secret": "the-secret", **options}


def test_an_endpoint_stays_beside_other_arguments_of_the_client(connection):
    options = {"client_kwargs": {"region_name": "eu-west-1"}}
    connection(conn_type="s3", extra={"endpoint_url": "http://127.0.0.1:9000", "storage_options": options})
    assert storage_options("lake") == {
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9000", "region_name": "eu-west-1"}
    }


def test_what_is_secret_in_storage_options_is_hidden_in_all_logs(connection):
    key = {"private_key": "never-shown-either"}
    connection(conn_type="google_cloud_platform", extra={"keyfile_dict": key, "storage_options": {"token": key}})
    assert storage_options("lake") == {"token": key}
    assert redact("before never-shown-either after") == "before *** after"


def test_login_and_password_of_another_type_are_not_guessed_at(connection):
    connection(conn_type="gcp", login="me", password="the-password", extra={"storage_options": {"token": "cloud"}})
    assert storage_options("lake") == {"token": "cloud"}


def test_an_empty_login_is_none(connection):
    connection(conn_type="s3", login="", password="")
    assert storage_options("lake") == {}


@pytest.mark.parametrize("given", ["anon=true", ["anon"], 3])
def test_storage_options_that_are_no_mapping_are_refused(connection, given):
    connection(conn_type="s3", extra={"storage_options": given})
    with pytest.raises(DataError, match=r"storage_options in the extra of connection 'lake' must be a mapping"):
        storage_options("lake")


@pytest.mark.parametrize("ask", [storage_options, lambda name: secret(f"connection:{name}.password")])
def test_a_connection_that_airflow_has_not_is_named_with_what_to_do(ask):
    with pytest.raises(DataError, match="Airflow has no connection 'nowhere': create it"):
        ask("nowhere")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "db.example"),
        ("login", "the-login"),
        ("password", "the-password"),
        ("port", "5432"),
        ("schema", "the-schema"),
        ("token", "the-token"),
        ("level", "3"),
    ],
)
def test_every_field_of_a_connection_may_be_a_secret(connection, field, value):
    connection(
        conn_type="postgres",
        host="db.example",
        login="the-login",
        password="the-password",
        port=5432,
        schema="the-schema",
        extra={"token": "the-token", "level": 3},
    )
    assert secret(f"connection:lake.{field}") == value


def test_a_connection_as_a_whole_may_be_a_secret(connection):
    connection(conn_type="postgres", host="db.example", login="the-login", password="the-password", port=5432)
    assert secret("connection:lake.uri").rstrip("/") == "postgres://the-login:the-password@db.example:5432"


def test_a_connection_whose_id_holds_a_dot_is_found(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_LAKE.EU", json.dumps({"conn_type": "generic", "password": "dotted-password"}))
    assert secret("connection:lake.eu.password") == "dotted-password"


@pytest.mark.parametrize("field", ["password", "port", "token"])
def test_a_field_that_is_not_set_is_named_with_its_connection(connection, field):
    connection(host="db.example")
    with pytest.raises(DataError, match=rf"connection 'lake' has no field '{field}'; set it"):
        secret(f"connection:lake.{field}")


def test_a_variable_may_be_a_secret(monkeypatch):
    monkeypatch.setenv("AIRFLOW_VAR_LICENCE", "the-licence-key")
    assert secret("variable:licence") == "the-licence-key"


def test_a_variable_that_airflow_has_not_is_named_with_what_to_do():
    with pytest.raises(DataError, match="Airflow has no variable 'nowhere': create it"):
        secret("variable:nowhere")


@pytest.mark.parametrize("reference", ["connection:lake.host", "variable:plain"])
def test_a_secret_is_hidden_in_all_logs_whatever_it_is_called(connection, monkeypatch, reference):
    value = f"never-shown-{reference.partition(':')[0]}"
    connection(host=value)
    monkeypatch.setenv("AIRFLOW_VAR_PLAIN", value)
    assert redact(f"before {value} after") == f"before {value} after"
    assert secret(reference) == value
    assert redact(f"before {value} after") == "before *** after"


def test_no_value_stands_in_an_error(connection):
    connection(password="do-not-tell-me", extra={"storage_options": "do-not-tell-me"})
    errors = []
    for ask in (lambda: secret("connection:lake.tokn"), lambda: storage_options("lake")):
        with pytest.raises(DataError) as error:
            ask()
        errors.append(str(error.value))
    assert "do-not-tell-me" not in " ".join(errors)


def test_the_login_of_a_registry_is_that_of_its_connection_and_masked(connection):
    connection(conn_type="docker", host="registry.example.com", port=5000, login="ann", password="the-registry-secret")
    found = login("lake")
    assert (found.host, found.username, found.password) == ("registry.example.com:5000", "ann", "the-registry-secret")
    assert "the-registry-secret" not in repr(found)
    assert redact("the-registry-secret", None) == "***"


def test_the_scheme_of_a_registry_stays(connection):
    connection(conn_type="docker", host="http://10.0.0.1:5000", login="ann")
    assert login("lake").host == "http://10.0.0.1:5000"


def test_certificates_of_an_engine_are_in_the_extra_of_its_connection(connection):
    connection(conn_type="docker", extra={"ca": "the-ca", "key": "the-private-key-of-it", "reauth": False})
    assert login("lake").extra == {"ca": "the-ca", "key": "the-private-key-of-it"}
    assert redact("the-private-key-of-it", None) == "***"


def test_a_registry_without_a_connection_is_refused_by_its_name():
    with pytest.raises(DataError, match="Airflow has no connection 'nowhere'"):
        login("nowhere")
