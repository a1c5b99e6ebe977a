from __future__ import annotations

import json

import pytest

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.hooks.storage import Fields, options_of, secrets_in

KEY = {"type": "service_account", "private_key": "the-private-key"}


def options(kind, **fields):
    return options_of(Fields("lake", kind, **fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"login": "k", "password": "s"}, {"key": "k", "secret": "s"}),
        ({"extra": {"aws_access_key_id": "k", "aws_secret_access_key": "s"}}, {"key": "k", "secret": "s"}),
        (
            {"login": "k", "password": "s", "extra": {"aws_session_token": "t"}},
            {"key": "k", "secret": "s", "token": "t"},
        ),
        ({"extra": {"profile_name": "team"}}, {"profile": "team"}),
        ({"extra": {"anon": True}}, {"anon": True}),
        ({"extra": {"anon": "true"}}, {"anon": True}),
        ({"extra": {"anon": "false"}}, {}),
        ({"extra": {"config_kwargs": {"signature_version": "unsigned"}}}, {"anon": True}),
        (
            {"extra": {"config_kwargs": {"s3": {"addressing_style": "path"}}}},
            {"config_kwargs": {"s3": {"addressing_style": "path"}}},
        ),
        (
            {"extra": {"endpoint_url": "http://here", "region_name": "eu-west-1"}},
            {"client_kwargs": {"endpoint_url": "http://here", "region_name": "eu-west-1"}},
        ),
        (
            {"extra": {"endpoint_url": "http://all", "service_config": {"s3": {"endpoint_url": "http://s3"}}}},
            {"client_kwargs": {"endpoint_url": "http://s3"}},
        ),
        ({"extra": {"verify": False}}, {"client_kwargs": {"verify": False}}),
        ({}, {}),
    ],
)
@pytest.mark.parametrize("kind", ["aws", "s3"])
def test_a_connection_to_aws_is_read_as_its_provider_reads_it(kind, fields, expected):
    assert options(kind, **fields) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"keyfile_dict": json.dumps(KEY), "project": "p"}, {"token": KEY, "project": "p"}),
        ({"keyfile_dict": KEY}, {"token": KEY}),
        ({"key_path": "/keys/one.json"}, {"token": "/keys/one.json"}),
        ({"extra__google_cloud_platform__key_path": "/keys/one.json"}, {"token": "/keys/one.json"}),
        ({"extra__google_cloud_platform__keyfile_dict": json.dumps(KEY)}, {"token": KEY}),
        ({"is_anonymous": True, "key_path": "/keys/one.json"}, {"token": "anon"}),
        ({"is_anonymous": False}, {}),
        ({}, {}),
    ],
)
def test_a_connection_to_google_is_read_as_its_provider_reads_it(extra, expected):
    assert options("google_cloud_platform", extra=extra) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"login": "a", "password": "k"}, {"account_name": "a", "account_key": "k"}),
        ({"login": "a", "extra": {"shared_access_key": "k"}}, {"account_name": "a", "account_key": "k"}),
        (
            {"host": "https://a.blob.core.windows.net", "password": "k"},
            {"account_name": "a", "account_key": "k"},
        ),
        (
            {"host": "a.blob.core.chinacloudapi.cn", "password": "k"},
            {"account_host": "a.blob.core.chinacloudapi.cn", "account_name": "a", "account_key": "k"},
        ),
        ({"login": "a", "extra": {"connection_string": "c"}}, {"connection_string": "c"}),
        ({"login": "a", "extra": {"sas_token": "?sv=1&sig=x"}}, {"account_name": "a", "sas_token": "sv=1&sig=x"}),
        (
            {"host": "a", "extra": {"sas_token": "https://a.blob.core.windows.net/c?sv=1&sig=x"}},
            {"account_name": "a", "sas_token": "sv=1&sig=x"},
        ),
        (
            {"host": "a.blob.core.windows.net", "login": "id", "password": "s", "extra": {"tenant_id": "t"}},
            {"account_name": "a", "tenant_id": "t", "client_id": "id", "client_secret": "s"},
        ),
        ({"login": "a", "extra": {"public_read": True}}, {"account_name": "a", "anon": True}),
        ({}, {}),
    ],
)
def test_a_connection_to_azure_is_read_as_its_provider_reads_it(fields, expected):
    assert options("wasb", **fields) == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("aws", "role_arn"),
        ("google_cloud_platform", "impersonation_chain"),
        ("google_cloud_platform", "key_secret_name"),
        ("wasb", "managed_identity_client_id"),
    ],
)
def test_an_identity_that_cannot_be_said_is_refused_unless_it_is_said_otherwise(kind, name):
    with pytest.raises(DataError, match=rf"connection 'lake' has {name}, which cannot be turned into storage options"):
        options(kind, extra={name: "somebody"})
    assert options(kind, extra={name: "somebody", "storage_options": {}}) == {}


def test_a_key_file_that_is_no_json_is_named_and_never_shown():
    with pytest.raises(DataError, match="keyfile_dict of connection 'lake' is no JSON") as caught:
        options("google_cloud_platform", extra={"keyfile_dict": "do-not-tell-me"})
    assert "do-not-tell-me" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_secret_is_found_wherever_it_lies():
    given = {"key": "public", "secret": "one", "token": {"private_key": "two", "type": "x"}, "sas_token": "three"}
    assert secrets_in(given) == ["one", "two", "three"]
