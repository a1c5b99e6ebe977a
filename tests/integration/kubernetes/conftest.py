from __future__ import annotations

import os

import pytest

from airflow_mlpipe.store.store import Store
from tests.integration.kubernetes.bench import PodBench
from tests.integration.kubernetes.cluster import VARIABLES, namespace


@pytest.fixture(scope="session", autouse=True)
def _images():
    """Skip where nobody says which images the cluster can pull; fail where the cluster is required."""
    if missing := [name for name in VARIABLES if not os.environ.get(name)]:
        said = f"{', '.join(missing)} not set; see tests/integration/kubernetes/cluster.py"
        if "kubernetes" in os.environ.get("MLPIPE_REQUIRE", "").split(","):
            pytest.fail(f"MLPIPE_REQUIRE names kubernetes, but {said}", pytrace=False)
        pytest.skip(f"kubernetes: {said}")


@pytest.fixture(scope="session")
def _namespace(_images):
    with namespace() as made:
        yield made


@pytest.fixture
def own_namespace(_namespace):
    """The namespace of the session; nothing is left in it by a test."""
    yield _namespace
    _namespace.delete_pods(grace_period_seconds=0)


@pytest.fixture
def bench(own_namespace, s3, tmp_path, monkeypatch):
    """A bench at the cluster, with a store on S3."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    store = Store.open(s3.fresh(), s3.options)
    return PodBench(tmp_path, store, "", namespace=own_namespace, server=s3)
