from __future__ import annotations

import json
from pathlib import Path

import kubernetes_validate
import pytest

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity, Supplies
from airflow_mlpipe.launchers.kubernetes.pod import pod_for
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, load_spec, to_json
from tests.launchers.kubernetes.pods import (
    FILE,
    FINGERPRINT,
    GPU,
    GPU_SUPPLIES,
    IDENTITY,
    SUPPLIES,
    TOKEN,
    compared,
    container,
    examples,
    manifest,
    step,
)

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = [f"1.{minor}" for minor in range(29, 37)]
NAMES = sorted(examples())


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_manifest_is_what_it_was(name):
    found = examples()[name]
    assert found == compared(GOLDEN / f"{name}.json", found)


def test_every_golden_file_is_compared():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_is_valid_for_kubernetes(name, version):
    assert kubernetes_validate.validate(examples()[name], version, strict=True) == version


def test_the_schemas_refuse_what_kubernetes_would():
    pod = examples()["plain"]
    pod["spec"]["containers"][0]["surprise"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[0], strict=True)


def test_a_spec_that_was_read_back_makes_the_same_pod():
    spec = step(GPU, checkpoint=True)
    again = load_spec(json.loads(to_json(spec)))
    assert pod_for(again, IDENTITY, GPU_SUPPLIES) == pod_for(spec, IDENTITY, GPU_SUPPLIES)


def test_whoever_goes_on_with_a_claim_finds_its_pod_and_another_claim_or_fingerprint_has_another():
    taker = PodIdentity("other", "run", IDENTITY.step, IDENTITY.fingerprint, IDENTITY.claim)
    retry = PodIdentity(IDENTITY.pipeline, IDENTITY.run, IDENTITY.step, IDENTITY.fingerprint, "another-claim")
    changed = PodIdentity(IDENTITY.pipeline, IDENTITY.run, IDENTITY.step, "cd" * 32, IDENTITY.claim)
    mapped = PodIdentity(IDENTITY.pipeline, IDENTITY.run, IDENTITY.step, FINGERPRINT, IDENTITY.claim, map_index=1)
    assert taker.name == IDENTITY.name
    assert len({retry.name, changed.name, IDENTITY.name}) == 3
    assert retry.labels == changed.labels == IDENTITY.labels
    assert mapped.labels["mlpipe/chain"] != IDENTITY.labels["mlpipe/chain"]


def test_odd_names_make_valid_pods():
    identity = PodIdentity(
        "Ünïcode pipeline " * 9, "manual__2026-01-01T00:00:00+00:00", "_Step." * 30, FINGERPRINT, "c"
    )
    pod = pod_for(step(), identity, SUPPLIES)
    kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)
    assert all(len(value) <= 63 for value in pod["metadata"]["labels"].values())
    assert len(pod["metadata"]["name"]) <= 63
    assert pod["metadata"]["annotations"]["mlpipe/pipeline"] == identity.pipeline


@pytest.mark.parametrize(("target", "supplies"), [({}, SUPPLIES), (GPU, GPU_SUPPLIES), (TOKEN, SUPPLIES)])
def test_the_users_container_gets_no_credentials(target, supplies):
    pod = manifest({**target, "staging_secret": None if "staging_token" in target else "store"}, supplies)
    base = container(pod, "base")
    seen = {mount["name"] for mount in base["volumeMounts"]}
    assert seen.isdisjoint({"mlpipe-credentials", "mlpipe-token", "mlpipe-staging", "mlpipe-secrets"})
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "store" not in json.dumps(base.get("envFrom", []))
    assert "MLPIPE_STORE" not in {variable["name"] for variable in base["env"]}


def test_secret_variables_reach_the_users_container_by_name_only():
    pod = manifest(GPU, GPU_SUPPLIES)
    assert container(pod, "base")["envFrom"] == [{"secretRef": {"name": IDENTITY.environment_secret}}]
    assert all("envFrom" not in container(pod, name) for name in ("mlpipe-stage", "mlpipe-publish"))


@pytest.mark.parametrize("name", ["plain", "gpu", "token"])
def test_a_namespace_with_the_restricted_policy_admits_the_pod(name):
    pod = examples()[name]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in [*pod["initContainers"], *pod["containers"]]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "runAsUser" not in each["securityContext"]
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    given = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert given - {"nfs"} <= allowed  # the user's own NFS volume is no work of ours


def test_inputs_are_read_only_for_the_command():
    mounts = container(manifest(), "base")["volumeMounts"]
    assert {"name": "mlpipe-work", "mountPath": "/mlpipe/inputs", "subPath": "inputs", "readOnly": True} in mounts


def test_an_input_of_a_datastore_in_a_volume_is_mounted_from_there():
    pod = examples()["gpu"]
    mount = {"name": "landing", "mountPath": "/mlpipe/inputs/raw", "readOnly": True, "subPath": "raw/2026/day.csv"}
    assert mount in container(pod, "base")["volumeMounts"]
    told = {variable["name"]: variable["value"] for variable in container(pod, "mlpipe-stage")["env"]}
    assert json.loads(told["MLPIPE_MOUNTED"]) == {"raw": "/mlpipe-data/landing/raw/2026/day.csv"}


@pytest.mark.parametrize(
    "bound",
    [
        InputSpec("s3://landing/raw/day.csv", FILE, datastore="landing", mode="download"),
        InputSpec("s3://landing/rawer/day.csv", FILE, datastore="landing"),
        InputSpec("s3://landing/raw/day.csv", FILE, datastore="other"),
    ],
)
def test_other_inputs_are_copied(bound):
    pod = manifest(GPU, GPU_SUPPLIES, inputs={"data": bound})
    assert "landing" not in {mount["name"] for mount in container(pod, "base")["volumeMounts"]}
    assert "landing" not in {volume["name"] for volume in pod["spec"]["volumes"]}


def test_dollars_reach_the_command_as_they_were_written():
    pod = manifest(command=(("sh",), ("-c",), ("echo $(HOME) $$ $HOME",)))
    assert container(pod, "base")["command"][-1] == "echo $$(HOME) $$$$ $$HOME"
    variables = EnvironmentSpec(image=step().environment.image, variables={"A": "$(B)", "B": "b"})
    given = container(manifest(environment=variables), "base")["env"]
    assert {"name": "A", "value": "$$(B)"} in given


def test_the_image_keeps_its_path_and_entrypoint_is_not_asked():
    base = container(manifest(), "base")
    names = {variable["name"] for variable in base["env"]}
    assert names.isdisjoint({"PATH", "PYTHONPATH"})
    assert base["command"][0] == "/mlpipe/.bin/sh"
    assert "args" not in base


def test_a_template_lies_beneath_what_we_say():
    template = {
        "metadata": {"name": "mine", "labels": {"mlpipe/step": "mine", "cost": "42"}},
        "spec": {
            "restartPolicy": "Always",
            "dnsPolicy": "None",
            "automountServiceAccountToken": True,
            "volumes": [{"name": "mlpipe-staging", "hostPath": {"path": "/"}}, {"name": "more", "emptyDir": {}}],
            "containers": [{"name": "base", "image": "mine", "tty": True}],
            "tolerations": [{"key": "spot"}],
        },
    }
    pod = manifest({"pod_template": template, "tolerations": [{"key": "gpu"}]})
    assert pod["metadata"]["name"] == IDENTITY.name
    assert pod["metadata"]["labels"]["mlpipe/step"] == "train"
    assert pod["metadata"]["labels"]["cost"] == "42"
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["dnsPolicy"] == "None"
    assert pod["spec"]["tolerations"] == [{"key": "spot"}, {"key": "gpu"}]
    base = container(pod, "base")
    assert (base["image"], base["tty"]) == (step().environment.image, True)
    assert {volume["name"] for volume in pod["spec"]["volumes"]} >= {"more", "mlpipe-work"}


def test_a_template_cannot_turn_a_volume_of_ours_into_another():
    template = {"spec": {"volumes": [{"name": "mlpipe-staging", "hostPath": {"path": "/"}}]}}
    volumes = manifest({"pod_template": template})["spec"]["volumes"]
    assert [volume for volume in volumes if volume["name"] == "mlpipe-staging"] == [
        {"name": "mlpipe-staging", "emptyDir": {}}
    ]


@pytest.mark.parametrize(
    ("target", "fields", "message"),
    [
        (
            {},
            {"environment": EnvironmentSpec(image=None, unknown="no route to the registry")},
            "no route to the registry",
        ),
        ({}, {"environment": EnvironmentSpec(image="sha256:" + "a" * 64)}, "only a Docker engine has image"),
        ({"pod_template": {"spec": {"shareProcessNamespace": True}}}, {}, "shareProcessNamespace"),
        ({"labels": {"azure.workload.identity/use": "true"}}, {}, "accept_pod_identity"),
    ],
)
def test_a_pod_that_must_not_be_is_refused(target, fields, message):
    with pytest.raises(StepError, match=message):
        manifest(target, **fields)


def test_a_step_without_a_command_is_refused():
    with pytest.raises(CommandFailedError, match="no command"):
        manifest(command=())


def test_a_step_of_another_target_is_refused():
    with pytest.raises(StepError, match="kind docker"):
        pod_for(step().__class__("p", "s", "command", target={"kind": "docker"}), IDENTITY, SUPPLIES)


def test_a_store_with_a_password_in_its_url_is_refused():
    with pytest.raises(StepError, match="password") as raised:
        manifest(supplies=Supplies("ftp://user:secret@host/store"))
    assert "secret" not in str(raised.value)


def test_the_identity_of_a_cloud_stays_out_of_the_users_container_unless_accepted():
    kept = manifest({"service_account": "mlpipe"})["metadata"]["annotations"]
    accepted = manifest({"service_account": "mlpipe", "accept_pod_identity": True})["metadata"]["annotations"]
    assert kept["eks.amazonaws.com/skip-containers"] == "base"
    assert "eks.amazonaws.com/skip-containers" not in accepted
