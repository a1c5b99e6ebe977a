"""Pods that others take away, and pods that take too much."""

from __future__ import annotations

import uuid

import pytest

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.protocol import OutputSpec
from tests.integration.kubernetes.cluster import image
from tests.integration.kubernetes.running import is_watched_over, launched, nothing_is_left, published, said
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3]

MODEL = {"model": OutputSpec()}
RESUMES = """\
if [ -e ../checkpoint/epoch ]; then echo "goes on after $(cat ../checkpoint/epoch)"; cat ../checkpoint/epoch > "$MLPIPE_OUTPUT_MODEL"; exit 0; fi
echo 1 > ../checkpoint/epoch; echo begun
trap 'echo 2 > ../checkpoint/epoch; exit 1' TERM
while true; do sleep 1; done
"""


def evict(namespace):
    """Have the pods of a namespace leave, as `kubectl drain` does."""
    for pod in namespace.pods():
        name = pod["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        namespace.api.create_namespaced_pod_eviction(name, namespace.name, body)


def test_a_pod_that_is_drained_is_begun_anew_in_the_same_try_and_goes_on_from_its_checkpoint(bench):
    patient = {"pod_template": {"spec": {"terminationGracePeriodSeconds": 120}}}
    thread, ended, _ = launched(bench, bench.shell(RESUMES, outputs=MODEL, checkpoint=True, target=patient))
    said(bench, "begun")
    is_watched_over(bench)
    evict(bench.namespace)
    thread.join(timeout=240)
    assert ended, bench.logged
    assert bench.store.read(ended[0].outputs["model"].path) == b"2\n"
    assert any("the pod was taken away: EvictionByEvictionAPI" in line for line in bench.logged)
    assert "goes on after 2" in bench.logged
    assert nothing_is_left(bench)


@pytest.fixture
def important(own_namespace):
    """A pod that takes all GPUs of the node away from whoever has them, for some seconds."""
    from kubernetes import client

    scheduling = client.SchedulingV1Api(own_namespace.api.api_client)
    name = f"mlpipe-test-{uuid.uuid4().hex[:8]}"
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 1000})
    container = {
        "name": "base",
        "image": image("busybox"),
        "command": ["sleep", "5"],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
    }
    pod = {
        "metadata": {"name": name},
        "spec": {"priorityClassName": name, "restartPolicy": "Never", "containers": [container]},
    }
    yield lambda: own_namespace.api.create_namespaced_pod(own_namespace.name, pod)
    scheduling.delete_priority_class(name)


@pytest.mark.timeout(420)
def test_a_pod_that_is_preempted_is_begun_anew_when_there_is_room_again(bench, important):
    short = {"spec": {"terminationGracePeriodSeconds": 10}}
    spec = bench.shell(
        'echo begun; sleep 20; echo x > "$MLPIPE_OUTPUT_MODEL"',
        outputs=MODEL,
        target={"gpus": 2, "pod_template": short},
    )
    thread, ended, _ = launched(bench, spec)
    said(bench, "begun")
    important()
    thread.join(timeout=380)
    assert bench.store.read(ended[0].outputs["model"].path) == b"x\n"
    assert any("the pod was taken away: Preempt" in line for line in bench.logged), bench.logged


@pytest.mark.timeout(420)  # the kubelet looks at volumes once a minute or so
@pytest.mark.parametrize(
    ("full", "said_of_it"),
    [
        ({"work_volume": {"size": "4Mi"}}, "exceeds the limit"),
        ({"resources": {"limits": {"ephemeral-storage": "4Mi"}}}, "ephemeral local storage usage exceeds"),
    ],
    ids=["of its volume", "of its node"],
)
def test_a_pod_that_writes_more_than_it_may_is_told_so_and_not_begun_anew(bench, full, said_of_it):
    script = 'dd if=/dev/zero of="$MLPIPE_OUTPUT_MODEL" bs=1M count=20 2>/dev/null; echo begun; sleep 300'
    with pytest.raises(CommandFailedError, match=rf"(?i){said_of_it} .*; give the step more disk"):
        bench.launch(bench.shell(script, outputs=MODEL, target=full))
    assert not any("begun anew" in line for line in bench.logged)
    assert published(bench) == []
    assert eventually(lambda: nothing_is_left(bench))
