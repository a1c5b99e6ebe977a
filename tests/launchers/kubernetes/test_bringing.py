from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import DataChangedError, DataError
from airflow_mlpipe.launchers.kubernetes.bringing import forget, within_reach
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import StatIndex, digest_path
from airflow_mlpipe.store.outputs import verify
from airflow_mlpipe.store.store import Store
from tests.launchers.kubernetes.pods import IDENTITY, step
from tests.launchers.steps import Bench

PLACE = layout.brought_input(IDENTITY.fingerprint, IDENTITY.claim, "data")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    store = Store.open(str(tmp_path / "store"))
    return Site(Workspace(), store, StatIndex.open(), {}.__getitem__)


@pytest.fixture
def folder(tmp_path):
    """Data on this machine."""
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    (folder / "a.csv").write_text("1\n")
    (folder / "more" / "b.csv").write_text("2\n")
    return folder


def brought(site, spec, mounted=(), said=None):
    return within_reach(site, spec, IDENTITY, mounted, (said if said is not None else []).append)


def test_data_of_this_machine_is_put_where_a_pod_reaches_it_and_the_step_takes_it_there(site, folder):
    said: list[str] = []
    spec = step(inputs={"data": Bench.external(folder)})
    bound = brought(site, spec, said=said).inputs["data"]
    assert (bound.uri, bound.datastore, bound.token) == (site.store.uri(PLACE), None, None)
    assert bound.content == spec.inputs["data"].content
    assert site.store.sizes(PLACE) == {"a.csv": 2, "more/b.csv": 2}
    assert said == ["brought the input data (2 files, 4 bytes) from here to the store"]


def test_a_single_file_of_a_datastore_on_this_machine_is_brought_as_a_file(site, folder):
    bound = replace(Bench.external(folder / "a.csv"), datastore="raw")
    site = replace(site, workspace=Workspace(datastores={"raw": {"url": folder.as_uri()}}))
    assert brought(site, step(inputs={"data": bound})).inputs["data"].datastore is None
    assert site.store.sizes(PLACE) == {"": 2}


def test_what_is_there_already_is_not_brought_again(site, folder):
    spec = step(inputs={"data": Bench.external(folder)})
    brought(site, spec)
    said: list[str] = []
    (folder / "a.csv").unlink()
    brought(site, spec, said=said)
    assert said == []


def test_what_was_brought_in_part_is_brought_anew(site, folder):
    site.store.write(f"{PLACE}/left", b"by somebody who was killed")
    spec = step(inputs={"data": Bench.external(folder)})
    brought(site, spec)
    assert verify(site.store, PLACE, spec.inputs["data"].content) is None


def test_data_that_has_changed_since_it_was_bound_is_refused(site, folder):
    spec = step(inputs={"data": Bench.external(folder)})
    (folder / "a.csv").write_text("another\n")
    with pytest.raises(DataChangedError, match="input 'data' changed after the step was planned"):
        brought(site, spec)


def test_data_of_this_machine_that_is_to_be_used_where_it_is_is_refused(site, folder):
    spec = step(inputs={"data": Bench.external(folder, mode="direct")})
    with pytest.raises(DataError, match="where no pod reaches it; use mode mount or download"):
        brought(site, spec)


def test_what_pods_reach_by_themselves_stays_where_it_is(site, folder, tmp_path):
    of_a_step = Bench(tmp_path, site.store, "").stored(folder)
    elsewhere = replace(of_a_step, uri="s3://lake/x", datastore="lake")
    spec = step(inputs={"stored": of_a_step, "elsewhere": elsewhere, "mounted": Bench.external(tmp_path / "store")})
    assert brought(site, spec, mounted=["mounted"]) == spec


def test_what_was_brought_is_removed_and_nothing_else(site, folder):
    spec = step(inputs={"data": Bench.external(folder)})
    brought(site, spec)
    site.store.write(layout.spec(IDENTITY.fingerprint, IDENTITY.claim), b"{}")
    forget(site.store, spec, IDENTITY)
    assert list(site.store.sizes(layout.outputs(IDENTITY.fingerprint, IDENTITY.claim))) == [".spec.json"]
    assert (folder / "a.csv").exists()


def test_of_a_mini_batch_only_its_files_are_brought(site, folder):
    bound = replace(Bench.external(folder), files=("more/b.csv",), content=digest_path(folder / "more"))
    brought(site, step(inputs={"data": bound}))
    assert site.store.sizes(PLACE) == {"more/b.csv": 2}
