"""What the documented role allows is enough, and is what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.runtime.protocol import DistributionSpec, OutputSpec
from tests.integration.kubernetes.cluster import namespace, use
from tests.integration.kubernetes.running import deferred

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MANIFESTS = Path(__file__).parents[3] / "docker" / "kubernetes" / "rbac.yaml"
MODEL = {"model": OutputSpec()}


def documented(kind):
    return next(found for found in yaml.safe_load_all(MANIFESTS.read_text()) if found["kind"] == kind)


@pytest.fixture
def steps(_images):
    """A namespace as it is documented."""
    with namespace(documented("Namespace")["metadata"]["labels"]) as made:
        made.api.create_namespaced_service_account(made.name, {"metadata": {"name": "airflow-worker"}})
        yield made


def bind(steps):
    """Give the account the documented role in that namespace."""
    from kubernetes import client

    rights = client.RbacAuthorizationV1Api(steps.api.api_client)
    role, binding = documented("Role"), documented("RoleBinding")
    for thing in (role, binding):
        thing["metadata"]["namespace"] = steps.name
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "airflow-worker", "namespace": steps.name}]
    rights.create_namespaced_role(steps.name, role)
    rights.create_namespaced_role_binding(steps.name, binding)


@pytest.fixture
def as_worker(steps, tmp_path, monkeypatch):
    """Be the account of the workers, and nobody else."""
    token = steps.api.create_namespaced_service_account_token("airflow-worker", steps.name, {"spec": {}}).status.token
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    use(monkeypatch, path)
    return path


@pytest.mark.usefixtures("as_worker")
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_documented_role_is_enough(bench, steps, deferrable):
    bind(steps)
    bench.namespace = steps
    spec = bench.shell('echo x > "$MLPIPE_OUTPUT_MODEL"; echo shown', outputs=MODEL, target={"deferrable": deferrable})
    result = deferred(bench, spec)
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    assert bench.logged[-1] == "shown"


@pytest.mark.usefixtures("as_worker")
@pytest.mark.parametrize("deferrable", [False, True])
def test_the_documented_role_is_enough_for_many_nodes(bench, steps, deferrable):
    bind(steps)
    bench.namespace = steps
    many = DistributionSpec("tensorflow", nodes=2)
    script = 'echo x > "$MLPIPE_OUTPUT_MODEL"; echo shown'
    result = deferred(bench, bench.shell(script, outputs=MODEL, distribution=many, target={"deferrable": deferrable}))
    assert bench.store.read(result.outputs["model"].path) == b"x\n"
    if not deferrable:  # else the triggerer may have shown it
        assert {"[node 0] shown", "[node 1] shown"} <= set(bench.logged)


@pytest.mark.usefixtures("as_worker")
def test_an_account_without_the_role_is_told_which_it_needs(bench, steps):
    bench.namespace = steps
    with pytest.raises(
        StepError,
        match=r'cannot .* the pod .*airflow-worker.* cannot \w+ resource "pods".*; bind the account to a role',
    ) as caught:
        bench.launch(bench.shell("true"))
    assert len(str(caught.value).splitlines()) == 1


def test_the_documented_role_reads_no_secret_and_changes_nothing():
    rules = {resource: rule["verbs"] for rule in documented("Role")["rules"] for resource in rule["resources"]}
    assert rules == {
        "pods": ["create", "get", "list", "watch", "delete"],
        "pods/log": ["get"],
        "events": ["list"],
        "secrets": ["create", "delete"],
        "jobs": ["create", "get", "delete"],
        "mpijobs": ["create", "get", "delete"],
        "services": ["create", "delete"],
    }
