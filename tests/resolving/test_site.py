from __future__ import annotations

import uuid

import pytest

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.exceptions import DataError, DefinitionError, StoreUnreachableError
from airflow_mlpipe.resolving.site import Site, no_connections
from airflow_mlpipe.runtime.protocol import OutputRef
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.outputs import publish

FP = "ab" * 32


@pytest.fixture(autouse=True)
def _no_store_in_the_environment(monkeypatch):
    monkeypatch.delenv("MLPIPE_STORE", raising=False)


@pytest.fixture
def site(tmp_path):
    bucket = Datastore(url=f"memory://{uuid.uuid4().hex}")
    return Site.open(Workspace(datastores={"bucket": bucket}), default_store=tmp_path / "store")


@pytest.fixture
def made(site, tmp_path):
    """An output of a step: a folder with two files."""
    for name in ("a", "sub/b"):
        (tmp_path / "made" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / name).write_text(name)
    content = publish(site.store, FP, "claim", "x", tmp_path / "made")
    return OutputRef(layout.output(FP, "claim", "x"), content)


def test_the_store_is_the_nearest_that_is_named(tmp_path, monkeypatch):
    named = Workspace(store={"url": str(tmp_path / "named")})
    assert Site.open(Workspace(), default_store=tmp_path / "default").store.local_root == tmp_path / "default"
    assert Site.open(named, default_store=tmp_path / "default").store.local_root == tmp_path / "named"
    monkeypatch.setenv("MLPIPE_STORE", str(tmp_path / "mine"))
    assert Site.open(named, default_store=tmp_path / "default").store.local_root == tmp_path / "mine"


def test_opening_a_site_writes_nothing(tmp_path):
    Site.open(Workspace(), default_store=tmp_path / "default")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_nothing_can_open_is_refused():
    with pytest.raises(StoreUnreachableError, match=r"nosuch://x cannot be opened"):
        Site.open(Workspace(store="nosuch://x"), default_store="unused")


def test_the_connection_of_the_store_gives_its_options(tmp_path, monkeypatch):
    workspace = Workspace(store={"url": str(tmp_path / "named"), "connection": "vault"})
    asked = []

    def options(connection):
        asked.append(connection)
        return {"auto_mkdir": True}

    site = Site.open(workspace, default_store="unused", storage_options=options)
    assert (asked, site.store.fs.auto_mkdir) == (["vault"], True)
    monkeypatch.setenv("MLPIPE_STORE", str(tmp_path / "mine"))
    Site.open(workspace, default_store="unused", storage_options=options)
    assert asked == ["vault"]


def test_without_airflow_a_connection_is_refused_by_name(tmp_path):
    workspace = Workspace(datastores={"vault": {"url": "memory://x", "connection": "vault_id"}})
    site = Site.open(workspace, default_store=tmp_path)
    with pytest.raises(DataError, match="connection 'vault_id' is kept by Airflow"):
        site.open_uri("memory://x/a", "vault")
    with pytest.raises(DataError, match="connection 'other'"):
        no_connections("other")


def test_a_uri_is_opened_with_the_credentials_of_its_datastore(tmp_path):
    workspace = Workspace(datastores={"disk": {"url": str(tmp_path), "connection": "disk_id"}})
    site = Site.open(workspace, default_store=tmp_path / "store", storage_options=lambda _: {"auto_mkdir": True})
    fs, path = site.open_uri(f"file://{tmp_path}/a", "disk")
    assert (fs.auto_mkdir, path) == (True, f"{tmp_path}/a")
    assert not site.open_uri(f"file://{tmp_path}/a", None)[0].auto_mkdir


def test_what_lies_in_the_store_is_opened_as_the_store_is(site, made):
    fs, path = site.open_uri(site.store.uri(made.path), None)
    assert fs is site.store.fs
    assert path == site.store.full(made.path)


def test_an_unknown_datastore_is_refused_with_the_nearest(site):
    with pytest.raises(DefinitionError, match="Did you mean bucket"):
        site.open_uri("memory://x", "bukket")


def test_a_uri_that_nothing_can_open_is_refused(site):
    with pytest.raises(DataError, match="nothing here can open nosuch://x"):
        site.open_uri("nosuch://x", None)


@pytest.mark.parametrize("where", ["local", "bucket"])
def test_a_delivered_output_is_what_the_destination_holds(site, made, tmp_path, where):
    uri, datastore = (f"file://{tmp_path}/there", None)
    if where == "bucket":
        uri, datastore = f"{site.workspace.datastore('bucket').url}/there", "bucket"
    assert not site.holds(uri, datastore, made.content)
    site.deliver(made, uri, datastore)
    assert site.holds(uri, datastore, made.content)
    fs, path = site.open_uri(f"{uri}/sub/b", datastore)
    assert fs.cat_file(path) == b"sub/b"
    fs.pipe_file(path, b"other")
    assert not site.holds(uri, datastore, made.content)
    fs.rm(path)
    assert not site.holds(uri, datastore, made.content)


def test_rule_13_a_delivery_leaves_nothing_else_at_the_destination(site, made, tmp_path):
    (tmp_path / "there" / "old").mkdir(parents=True)
    (tmp_path / "there" / "old" / "file").write_text("old")
    site.deliver(made, f"file://{tmp_path}/there", None)
    assert digest_path(tmp_path / "there") == made.content


def test_what_cannot_be_data_is_not_what_was_delivered(site, made, tmp_path):
    site.deliver(made, f"file://{tmp_path}/there", None)
    (tmp_path / "there" / "out").symlink_to("/etc/hostname")
    assert not site.holds(f"file://{tmp_path}/there", None, made.content)


@pytest.mark.parametrize("inside", ["", "store", "store/outputs/x"])
def test_a_destination_around_or_inside_the_store_is_refused(site, made, tmp_path, inside):
    with pytest.raises(DataError, match=r"the output store .* lie inside one another; choose another destination"):
        site.deliver(made, f"file://{tmp_path}/{inside}", None)
    assert digest_path(site.store.local_root / made.path) == made.content
