from __future__ import annotations

import multiprocessing
import os

import fsspec
import pytest

from airflow_mlpipe.store import fast, layout, outputs
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.store import Store

FORK = multiprocessing.get_context("fork")
KEYS = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:1"}


@pytest.fixture
def _installed():
    pytest.importorskip("obstore", reason="the speed path needs obstore")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"key": "k"},
        {"anon": True, **KEYS},
        {"profile": "team", **KEYS},
        {"requester_pays": True, **KEYS},
        {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}, **KEYS},
        {"client_kwargs": {"verify": False}, **KEYS},
        {"config_kwargs": {"s3": {"addressing_style": "virtual"}}, **KEYS},
    ],
)
@pytest.mark.s3
def test_what_may_not_mean_the_same_is_left_to_s3fs(options):
    assert fast._store(fsspec.filesystem("s3", **options), "bucket") is None


@pytest.mark.s3
def test_a_bundle_of_certificates_that_only_s3fs_knows_is_left_to_it(monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    fs = fsspec.filesystem("s3", **{**KEYS, "endpoint_url": "https://127.0.0.1:1"})
    assert fast._store(fs, "bucket") is None


@pytest.mark.s3
@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("key", ["a/b", "a/b.c/d=20e_f-g", "0"])
def test_an_object_is_the_same_through_either_client(s3, tmp_path, key):
    fs = fsspec.filesystem("s3", **s3.options)
    path = f"{s3.fresh()}/{key}".removeprefix("s3://")
    (tmp_path / "source").write_bytes(b"content")
    assert fast.upload(fs, str(tmp_path / "source"), path)
    assert fs.cat_file(path) == b"content"
    assert fast.download(fs, path, str(tmp_path / "target"), 7)
    assert (tmp_path / "target").read_bytes() == b"content"


@pytest.mark.s3
@pytest.mark.usefixtures("_installed")
def test_a_store_that_is_opened_with_keys_has_the_speed_path(s3):
    """With all that is set for whoever sets nothing."""
    assert fast._store(Store.open(s3.fresh(), s3.options).fs, "bucket") is not None


@pytest.mark.s3
@pytest.mark.parametrize("key", ["a b", "größe", "a//b", "a/../b", "./a", "a%20b", "a\nb", "a/", ".hidden", "a?b#c"])
def test_a_name_that_clients_may_write_differently_is_left_to_s3fs(s3, tmp_path, key):
    fs = fsspec.filesystem("s3", **s3.options)
    (tmp_path / "source").write_bytes(b"content")
    assert not fast.upload(fs, str(tmp_path / "source"), f"bucket/{key}")
    assert not fast.download(fs, f"bucket/{key}", str(tmp_path / "target"), 1)


@pytest.mark.s3
@pytest.mark.usefixtures("_installed")
def test_a_large_file_is_left_to_s3fs(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "SMALL", 3)
    fs = fsspec.filesystem("s3", **s3.options)
    (tmp_path / "source").write_bytes(b"large")
    assert not fast.upload(fs, str(tmp_path / "source"), "bucket/large")
    assert not fast.download(fs, "bucket/large", str(tmp_path / "target"), 5)


@pytest.mark.s3
@pytest.mark.usefixtures("_installed")
def test_what_fails_is_done_by_s3fs(s3_store, network, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for number in range(20):
        (made / f"{number}").write_bytes(bytes([number]))
    path = layout.output("fa" * 32, "c1", "model")
    network.fail(share=0.2, seed=5)
    content = outputs.publish(s3_store, "fa" * 32, "c1", "model", made)
    network.cut(share=0.3, seed=6)
    outputs.fetch(s3_store.fs, s3_store.full(path), tmp_path / "got")
    assert digest_path(tmp_path / "got") == content == digest_path(made)


def upload_and_list(server, url, source):
    store = Store.open(url, server.options)
    return fast.upload(store.fs, source, store.full("b")), store.upload(source, "c"), store.names("")


@pytest.mark.s3
@pytest.mark.usefixtures("_installed")
def test_a_child_that_was_forked_does_without(s3, tmp_path):
    source, url = tmp_path / "source", s3.fresh()
    source.write_bytes(b"1")
    store = Store.open(url, s3.options)
    assert fast.upload(store.fs, str(source), store.full("a"))
    with FORK.Pool(1) as pool:
        assert pool.apply_async(upload_and_list, (s3, url, source)).get(60) == (False, None, ["a", "c"])
    assert fast.upload(store.fs, os.fspath(source), store.full("d"))
