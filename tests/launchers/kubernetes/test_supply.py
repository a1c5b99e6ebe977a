from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import Datastore, Workspace
from airflow_mlpipe.definitions.compute import target_from
from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.supply import Credentials, short_lived, supplies_of
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec
from airflow_mlpipe.store.digests import StatIndex
from airflow_mlpipe.store.store import Store
from tests.launchers.kubernetes.pods import FILE, IDENTITY, step

OPTIONS = {"lake": {"key": "k", "secret": "s3cr3t"}, "other": {"key": "o"}, "store": {"key": "st"}}
OUTSIDE = {
    "a": InputSpec("s3://lake/a", FILE, datastore="lake"),
    "b": InputSpec("s3://lake/b", FILE, datastore="lake"),
    "c": InputSpec("s3://open/c", FILE, datastore="open"),
    "d": InputSpec("s3://models/mlpipe/outputs/x", FILE),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    datastores = {
        "lake": Datastore(url="s3://lake", connection="lake"),
        "open": Datastore(url="s3://open"),
        "unused": Datastore(url="s3://unused", connection="other"),
    }
    store = Store.open(str(tmp_path / "store"))
    return Site(Workspace(datastores=datastores), store, StatIndex.open(), OPTIONS.__getitem__, connection="store")


def test_a_pod_gets_the_credentials_that_its_step_needs_and_no_others(site):
    spec = step(inputs=OUTSIDE)
    given = Credentials.of(site, spec, target_from(spec.target))
    assert given == Credentials(OPTIONS["store"], {"lake": OPTIONS["lake"]})
    (secret,) = short_lived(IDENTITY, "ml", "uid", {}, given)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid"
    assert secret["metadata"]["namespace"] == "ml"


@pytest.mark.parametrize(
    "own",
    [
        {"staging_secret": "mine"},
        {"service_account": "a", "staging_token": {"audience": "sts"}},
        {"service_account": "a", "accept_pod_identity": True},
    ],
)
def test_where_the_workspace_has_the_pod_find_its_credentials_none_are_sent(site, own):
    spec = step(own, inputs=OUTSIDE)
    given = Credentials.of(site, spec, target_from(spec.target))
    assert not given
    assert short_lived(IDENTITY, "ml", "uid", {}, given) == []


def test_a_kubelet_does_not_keep_a_secret_for_the_next_pod_of_the_same_name(site):
    spec = step(inputs=OUTSIDE)
    credentials = Credentials.of(site, spec, target_from(spec.target))
    secrets = short_lived(IDENTITY, "ml", "uid", {"TOKEN": "t"}, credentials)
    assert [secret.get("immutable", False) for secret in secrets] == [False, False]


def test_a_store_on_this_machine_is_refused_before_any_pod_is_made(site):
    spec = step(environment=EnvironmentSpec())
    with pytest.raises(StepError, match=r"lies on this machine, where no pod reaches it; give the workspace"):
        supplies_of(site, spec, target_from(spec.target), Credentials())
