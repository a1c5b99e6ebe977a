from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlpipe.definitions import KubernetesCompute
from airflow_mlpipe.definitions.compute import DatastoreVolume, KubernetesVolume
from tests.definitions.helpers import problems


def test_a_target_that_says_nothing_asks_for_nothing():
    assert KubernetesCompute().container_resources() == {}
    assert KubernetesCompute().deferrable
    assert KubernetesCompute().pending_timeout == timedelta(minutes=10)


def test_short_words_stand_for_requests_and_limits():
    target = KubernetesCompute(cpus=1.5, memory="4Gi", gpus=2)
    assert target.container_resources() == {
        "requests": {"cpu": "1.5", "memory": "4Gi"},
        "limits": {"cpu": "1.5", "memory": "4Gi", "nvidia.com/gpu": "2"},
    }


def test_gpus_may_have_any_name_and_none_is_none():
    assert KubernetesCompute(gpus=1, gpu_resource="nvidia.com/mig-1g.10gb").container_resources() == {
        "limits": {"nvidia.com/mig-1g.10gb": "1"}
    }
    assert KubernetesCompute(gpus=0).container_resources() == {}


def test_resources_are_as_in_a_container():
    given = {"requests": {"cpu": 1, "ephemeral-storage": "20Gi"}, "limits": {"amd.com/gpu": 1, "hugepages-2Mi": "4Mi"}}
    assert KubernetesCompute(resources=given).container_resources() == {
        "requests": {"cpu": "1", "ephemeral-storage": "20Gi"},
        "limits": {"amd.com/gpu": "1", "hugepages-2Mi": "4Mi"},
    }


@pytest.mark.parametrize(
    "given",
    [{"data": {"pvc": "sets", "mount_path": "/data"}}, [{"name": "data", "pvc": "sets", "mount_path": "/data"}]],
)
def test_volumes_have_names_by_their_keys_or_of_their_own(given):
    assert KubernetesCompute(volumes=given).volumes == {
        "data": KubernetesVolume(name="data", pvc="sets", mount_path="/data")
    }


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({"pvc": "sets"}, {"persistentVolumeClaim": {"claimName": "sets"}}),
        ({"csi": {"driver": "d"}}, {"csi": {"driver": "d"}}),
        ({"source": {"nfs": {"server": "nas", "path": "/"}}}, {"nfs": {"server": "nas", "path": "/"}}),
    ],
)
def test_a_volume_is_what_stands_in_a_pod(given, source):
    assert KubernetesVolume(**given).volume_source == source


def test_a_datastore_may_name_its_volume_alone():
    target = KubernetesCompute(volumes={"data": {"pvc": "sets"}}, datastores={"lake": "data"})
    assert target.datastores == {"lake": DatastoreVolume(volume="data")}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"namespace": "Team_A"}, "namespace: cannot be the name of a namespace"),
        ({"image": "Train:1"}, "image: is no name of an image"),
        ({"image": "sha256:" + "a" * 64}, "which a cluster cannot pull"),
        ({"staging_image": "a b"}, "staging_image: is no name of an image"),
        ({"resources": {"limits": {"gpu": 1}}}, "devices have a domain, as in nvidia.com/gpu"),
        ({"resources": {"limits": {"memroy": "1Gi"}}}, "Did you mean memory?"),
        ({"resources": {"requests": {"memory": "4gb"}}}, "resources.requests.memory: is no quantity"),
        (
            {"resources": {"requests": {"memory": "5Gi"}, "limits": {"memory": "4Gi"}}},
            "resources.requests.memory: is more than its limit (given: 5Gi, limit 4Gi)",
        ),
        ({"memory": "1Gi", "resources": {"limits": {"memory": "1Gi"}}}, "memory: is given beside memory in resources"),
        ({"gpus": 1, "resources": {"limits": {"nvidia.com/gpu": 1}}}, "gpus: is given beside nvidia.com/gpu"),
        ({"gpu_resource": "gpu"}, "gpu_resource: is no name of a device"),
        ({"volumes": {"data": {}}}, "volumes.data: says nowhere what it is"),
        ({"volumes": {"data": {"pvc": "a", "csi": {"driver": "d"}}}}, "says twice what it is (given: pvc, csi)"),
        ({"volumes": {"data": {"source": {"nfs": {}, "hostPath": {}}}}}, "must hold one volume source"),
        ({"volumes": {"Data": {"pvc": "a"}}}, "cannot be the name of a volume"),
        ({"volumes": {"d": {"pvc": "a", "mount_path": "/mlpipe"}}}, "lies where the step directory is"),
        ({"volumes": {"d": {"pvc": "a", "sub_path": "../x"}}}, "must not lead out of its folder"),
        ({"volumes": {"data": {"pvc": "a"}}, "datastores": {"lake": "dat"}}, "is none of the volumes (given: dat)"),
        ({"work_volume": {"storage_class": "fast"}}, "work_volume.storage_class: is given without size"),
        ({"work_volume": {"pvc": "a", "size": "1Gi"}}, "work_volume.pvc: is given beside size or storage_class"),
        ({"staging_token": {"audience": "sts"}}, "staging_token: is given without service_account"),
        (
            {"staging_token": {"audience": "sts"}, "staging_secret": "s", "service_account": "a"},
            "staging_token: is given beside staging_secret",
        ),
        ({"pending_timeout": "soon"}, "pending_timeout: is not a duration"),
        ({"deferrable": "yes"}, "deferrable: must be true or false"),
    ],
)
def test_a_target_that_could_not_work_is_refused(fields, words):
    (problem,) = problems(KubernetesCompute, **fields)
    assert words in problem
