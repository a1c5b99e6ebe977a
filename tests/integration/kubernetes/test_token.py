"""A token of the service account instead of a Secret: it is exchanged for credentials, and the user's container has none."""

from __future__ import annotations

import json

import pytest

from airflow_mlpipe.launchers.kubernetes.pod import BASE, PUBLISH, STAGE
from airflow_mlpipe.launchers.kubernetes.volumes import TOKEN
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.integration.kubernetes.running import launched, said

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}
PLACE = "/var/run/secrets/mlpipe/token"
LOOKS = 'echo begun; ls /var/run/secrets 2>&1; env > "$MLPIPE_OUTPUT_MODEL"; sleep 5'


@pytest.fixture
def account(own_namespace):
    own_namespace.api.create_namespaced_service_account(own_namespace.name, {"metadata": {"name": "steps"}})
    yield "steps"
    own_namespace.api.delete_namespaced_service_account("steps", own_namespace.name)


def test_staging_containers_exchange_a_token_for_credentials_and_the_users_container_sees_nothing_of_it(bench, account):
    token = {
        "audience": "sts.amazonaws.com",
        "path": PLACE,
        "variables": {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/steps",
            "AWS_WEB_IDENTITY_TOKEN_FILE": PLACE,
            "AWS_ENDPOINT_URL": bench.server.options["endpoint_url"],
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
    }
    spec = bench.shell(LOOKS, outputs=MODEL, target={"service_account": account, "staging_token": token})
    thread, ended, _ = launched(bench, spec)
    said(bench, "begun")
    (pod,) = bench.namespace.pods()
    secrets = bench.namespace.secrets()
    thread.join(timeout=90)
    variables = bench.store.read(ended[0].outputs["model"].path).decode()
    containers = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    sees = {given["name"]: TOKEN in [mount["name"] for mount in given["volumeMounts"]] for given in containers}
    assert sees == {STAGE: True, PUBLISH: True, BASE: False}
    assert "AWS_" not in variables
    assert not any("mlpipe" in line or "serviceaccount" in line for line in bench.logged[1:] if line != "begun")
    assert secrets == []
    assert bench.server.options["secret"] not in json.dumps(pod)
