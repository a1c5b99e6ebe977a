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


def output(site, tmp_path, name, *files):
    """Publish another output: a folder with these files, or a file where there are none."""
    place = tmp_path / name
    for file in files:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(name)
    if not files:
        place.write_text(name)
    content = publish(site.store, FP, name, "x", place)
    return OutputRef(layout.output(FP, name, "x"), content)


def test_rule_13_a_delivery_leaves_nothing_of_the_one_before(site, made, tmp_path):
    there = f"file://{tmp_path}/there"
    site.deliver(output(site, tmp_path, "before", "old/file", "a"), there, None)
    site.deliver(made, there, None)
    assert digest_path(tmp_path / "there") == made.content


def test_rule_13_what_nobody_delivered_stays_and_the_delivery_is_refused(site, made, tmp_path):
    there = f"file://{tmp_path}/there"
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("precious")
    with pytest.raises(DataError, match=r"holds 'notes.txt', which no earlier copy of this output left there"):
        site.deliver(made, there, None)
    with pytest.raises(DataError, match=r"is a folder, which holds 'notes.txt'; name the file: .*/there/x"):
        site.deliver(output(site, tmp_path, "single"), there, None)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["notes.txt"]
    (tmp_path / "there" / "notes.txt").rename(tmp_path / "notes.txt")
    site.deliver(made, there, None)
    (tmp_path / "there" / "notes.txt").write_text("later")
    with pytest.raises(DataError, match=r"holds 'notes.txt'"):
        site.deliver(output(site, tmp_path, "after", "c"), there, None)
    assert (tmp_path / "there" / "a").read_text() == "a"


def test_rule_13_a_copy_that_somebody_edited_is_made_again(site, made, tmp_path):
    site.deliver(made, f"file://{tmp_path}/there", None)
    (tmp_path / "there" / "a").write_text("edited")
    site.deliver(made, f"file://{tmp_path}/there", None)
    assert digest_path(tmp_path / "there") == made.content


def test_rule_13_a_file_is_delivered_in_place_of_a_file(site, tmp_path):
    (tmp_path / "there").write_text("old")
    site.deliver(output(site, tmp_path, "single"), f"file://{tmp_path}/there", None)
    assert (tmp_path / "there").read_text() == "single"


def test_a_destination_below_a_file_holds_nothing(site, made, tmp_path):
    (tmp_path / "there").write_text("a file")
    uri = f"file://{tmp_path}/there/below"
    assert not site.holds(uri, None, made.content)
    with pytest.raises(DataError, match=r"cannot copy .* to .*/there/below: NotADirectoryError"):
        site.deliver(made, uri, None)


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/x", "https://host/x?sig=SECRET", "https://ghp_SECRET@host/x"]
)
def test_a_url_with_credentials_is_refused_without_showing_them(site, url):
    with pytest.raises(DataError, match="Airflow connection, and name a datastore that has it") as caught:
        site.open_uri(url, None)
    assert not any(secret in str(caught.value) for secret in ("hunter2", "SECRET"))


def test_the_folders_that_are_ours_are_known(site, tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    assert site.folders == (tmp_path / "store", tmp_path / "home", tmp_path / "cache")
    monkeypatch.delenv("MLPIPE_HOME")
    remote = Site.open(Workspace(store="memory://x"), default_store="unused")
    assert remote.folders == (tmp_path / "cache",)


def test_what_cannot_be_data_is_not_what_was_delivered(site, made, tmp_path):
    site.deliver(made, f"file://{tmp_path}/there", None)
    (tmp_path / "there" / "out").symlink_to("/etc/hostname")
    assert not site.holds(f"file://{tmp_path}/there", None, made.content)


@pytest.mark.parametrize("inside", ["", "store", "store/outputs/x"])
def test_a_destination_around_or_inside_the_store_is_refused(site, made, tmp_path, inside):
    with pytest.raises(DataError, match=r"the output store .* lie inside one another; choose another destination"):
        site.deliver(made, f"file://{tmp_path}/{inside}", None)
    assert digest_path(site.store.local_root / made.path) == made.content
