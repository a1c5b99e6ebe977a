"""Steps and targets of which manifests are made."""

from __future__ import annotations

import json
import os
from typing import Any

from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity, Supplies
from airflow_mlpipe.launchers.kubernetes.pod import pod_for
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, Reference, StepSpec
from airflow_mlpipe.store.digests import Content

IMAGE = "registry.example.org/ml/train@sha256:" + "5f" * 32
FINGERPRINT = "ab" * 32
IDENTITY = PodIdentity("churn", "scheduled__2026-01-01T00:00:00+00:00", "train", FINGERPRINT, "c1a1m")
SUPPLIES = Supplies("s3://models/mlpipe")

FOLDER = Content("folder", "sha256:" + "0d" * 32, 4096, 3)
FILE = Content("file", "sha256:" + "0f" * 32, 512, 1)


def step(target: dict[str, Any] | None = None, **fields: Any) -> StepSpec:
    """Return a step that trains a model from the output of another."""
    bound = InputSpec("s3://models/mlpipe/outputs/ef/claim/clean", FOLDER)
    given = {
        "pipeline": "churn",
        "step": "train",
        "kind": "python_script",
        "command": (
            (Reference("interpreter"),),
            ("train.py",),
            ("--data",),
            (Reference("input", "data"),),
            ("--model=", Reference("output", "model")),
            ("--c",),
            (Reference("parameter", "c"),),
        ),
        "code": "sha256:" + "cd" * 32,
        "inputs": {"data": bound},
        "outputs": {"model": OutputSpec("file")},
        "parameters": {"c": 0.5},
        "environment": EnvironmentSpec(interpreter="python", image=IMAGE, variables={"OMP_NUM_THREADS": "2"}),
        "target": {"kind": "kubernetes", "namespace": "ml", **(target or {})},
    }
    return StepSpec(**{**given, **fields})


def manifest(target: dict[str, Any] | None = None, supplies: Supplies = SUPPLIES, **fields: Any) -> dict[str, Any]:
    """Return the manifest of such a step."""
    return pod_for(step(target, **fields), IDENTITY, supplies)


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one container of a manifest."""
    both = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    return next(found for found in both if found["name"] == name)


GPU: dict[str, Any] = {
    "image_pull_secrets": ["registry"],
    "resources": {"requests": {"ephemeral-storage": "20Gi"}},
    "cpus": 4,
    "memory": "16Gi",
    "gpus": 2,
    "shm_size": "8Gi",
    "node_selector": {"node.kubernetes.io/instance-type": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]},
                ]
            }
        }
    },
    "priority_class": "batch",
    "runtime_class": "nvidia",
    "volumes": {
        "landing": {"pvc": "landing"},
        "models": {"csi": {"driver": "csi.example.org", "readOnly": True}, "mount_path": "/models"},
        "scratch": {
            "source": {"nfs": {"server": "nas", "path": "/scratch"}},
            "mount_path": "/scratch",
            "read_only": False,
        },
    },
    "datastores": {"landing": {"volume": "landing", "sub_path": "raw"}},
    "work_volume": {"storage_class": "fast", "size": "100Gi"},
    "queue": "research",
    "labels": {"team": "churn"},
    "annotations": {"karpenter.sh/do-not-disrupt": "true"},
    "staging_image": "registry.example.org/mlpipe/step:1",
    "staging_resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
    "pod_template": {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "terminationGracePeriodSeconds": 120,
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["nas"]}],
            "containers": [
                {"name": "base", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}], "imagePullPolicy": "Always"}
            ],
        },
    },
}
"""A target with everything a GPU step may need."""

GPU_SUPPLIES = Supplies(
    "s3://models/mlpipe",
    roots={"landing": "s3://landing/raw"},
    secrets=True,
    credentials=True,
)

TOKEN: dict[str, Any] = {
    "service_account": "mlpipe-steps",
    "staging_token": {
        "audience": "sts.amazonaws.com",
        "variables": {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mlpipe",
            "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/secrets/mlpipe/token",
        },
    },
    "work_volume": {"pvc": "scratch"},
    "user": 2000,
    "group": 3000,
    "fs_group": 4000,
    "pod_template": {
        "spec": {"containers": [{"name": "base", "securityContext": {"readOnlyRootFilesystem": True}}]},
    },
}
"""A target whose staging containers exchange a token, and whose containers write to volumes only."""


def examples() -> dict[str, dict[str, Any]]:
    """Return the manifests that are compared whole, by name."""
    landing = InputSpec("s3://landing/raw/2026/day.csv", FILE, datastore="landing", token="etag")
    return {
        "plain": manifest(),
        "gpu": manifest(
            GPU,
            GPU_SUPPLIES,
            checkpoint=True,
            inputs={"data": step().inputs["data"], "raw": landing},
            environment=EnvironmentSpec(interpreter="python", image=IMAGE, secrets={"API_KEY": "variable:api_key"}),
        ),
        "token": manifest(TOKEN),
        "secret_as_root": manifest({"staging_secret": "store", "user": 0, "group": 0}),
    }


def compared(path, found):
    """Return what a golden file holds; ``MLPIPE_WRITE_GOLDEN=1`` writes it anew first, to be looked at in the diff."""
    if os.environ.get("MLPIPE_WRITE_GOLDEN"):
        path.write_text(json.dumps(found, indent=2) + "\n")
    return json.loads(path.read_text())
