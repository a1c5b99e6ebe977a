from __future__ import annotations

import json

import pytest

from airflow_mlpipe.definitions import DockerCompute, KubernetesCompute, LocalCompute
from airflow_mlpipe.definitions.compute import compute_target, resource_faults, target_from, with_resources
from airflow_mlpipe.definitions.dump import plain
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "local"}, LocalCompute(name="x")),
        ({"kind": "docker", "image": "i", "gpus": 1}, DockerCompute(name="x", image="i", gpus=1)),
        ({"kind": "kubernetes", "namespace": "ml"}, KubernetesCompute(name="x", namespace="ml")),
        (LocalCompute(), LocalCompute(name="x")),
    ],
)
def test_a_target_is_of_the_kind_it_names(given, expected):
    assert compute_target(given, "x") == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "lokal"}, "Did you mean local?"),
        ({}, "kind: is missing"),
        ("local", "Write {kind: local}"),
        ({"kind": "local", "image": "x"}, "there is no such field"),
        ({"kind": ["local"]}, "is no kind of compute target"),
    ],
)
def test_a_target_of_no_known_kind_is_refused(given, words):
    with refused(words):
        compute_target(given, "x")


BOX = DockerCompute(name="box", memory="4Gi", cpus=2, gpus=1)


def test_a_step_s_resources_take_the_place_of_the_target_s():
    asked = {"memory": "8Gi", "gpus": "all", "shm_size": "1Gi"}
    assert with_resources(BOX, asked) == BOX.model_copy(update=asked)
    assert with_resources(BOX, {}) is BOX


@pytest.mark.parametrize(
    ("target", "asked", "granted"),
    [
        ({"memory": "4Gi"}, {"memory": "8Gi"}, {"requests": {"memory": "8Gi"}, "limits": {"memory": "8Gi"}}),
        ({"memory": "4Gi"}, {"limits": {"memory": "8Gi"}}, {"limits": {"memory": "8Gi"}}),
        ({"gpus": 4}, {"limits": {"nvidia.com/gpu": 1}}, {"limits": {"nvidia.com/gpu": "1"}}),
        ({"resources": {"limits": {"nvidia.com/gpu": 4}}}, {"gpus": 1}, {"limits": {"nvidia.com/gpu": "1"}}),
        (
            {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}},
            {"requests": {"cpu": 2}, "limits": {"cpu": 4}},
            {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "4"}},
        ),
        (
            {"resources": {"requests": {"cpu": 1}, "limits": {"cpu": 4}}},
            {"cpus": 8},
            {"requests": {"cpu": "8"}, "limits": {"cpu": "8"}},
        ),
    ],
)
def test_a_step_s_resources_take_the_place_of_a_pod_s_name_by_name(target, asked, granted):
    assert with_resources(KubernetesCompute(**target), asked).container_resources() == granted


@pytest.mark.parametrize(
    ("target", "asked", "words"),
    [
        (
            BOX,
            {"memroy": "1Gi"},
            "memroy: is nothing that a docker target provides (given: memroy). Did you mean memory?",
        ),
        (BOX, {"cpus": "many"}, "cpus: is no number of processors"),
        (LocalCompute(), {"gpus": 1}, "gpus: is nothing that a local target provides (given: gpus). Leave it out"),
        (KubernetesCompute(), {"limits": 3}, "limits: must be a mapping of names to amounts"),
        (
            KubernetesCompute(resources={"limits": {"cpu": 1}}),
            {"requests": {"cpu": 2}},
            "requests.cpu: is more than its limit (given: 2, limit 1)",
        ),
    ],
)
def test_what_a_target_does_not_provide_is_refused_by_name(target, asked, words):
    (fault,) = resource_faults(target, asked)
    assert words in str(fault.problem())


WHOLE = [
    DockerCompute(
        name="box", host="tcp://b:2376", tls={"ca": "/ca"}, gpus=["0"], mounts=["/a:/b:rw"], user=1, cpus=0.5
    ),
    KubernetesCompute(
        name="pod",
        resources={"requests": {"cpu": 1}},
        volumes={"v": {"pvc": "c", "mount_path": "/v"}},
        datastores={"d": {"volume": "v", "sub_path": "x"}},
        work_volume={"size": "1Gi", "storage_class": "fast"},
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        pending_timeout="1 hour",
        service_account="s",
        staging_token={"audience": "a", "expires": "30 minutes"},
        pod_template={"spec": {"hostNetwork": True}},
    ),
]


@pytest.mark.parametrize("target", WHOLE, ids=lambda target: target.kind)
def test_a_target_is_the_same_after_its_way_through_json(target):
    data = json.loads(json.dumps(plain(target)))
    assert target_from(data) == target


def test_no_data_stands_for_a_local_target():
    assert target_from({}) == LocalCompute()
