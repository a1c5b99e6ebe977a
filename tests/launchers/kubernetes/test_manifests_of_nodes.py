"""The manifests of steps on many nodes: Indexed Jobs with their service, and MPIJobs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.launchers.kubernetes.identity import ATTEMPT, JOB, MPI_JOB, PodIdentity
from airflow_mlpipe.launchers.kubernetes.indexed import job_for, service_for
from airflow_mlpipe.launchers.kubernetes.members import mark, selector
from airflow_mlpipe.launchers.kubernetes.mpijob import mpijob_for
from airflow_mlpipe.runtime.protocol import DistributionSpec, EnvironmentSpec
from tests.launchers.kubernetes.pods import (
    FINGERPRINT,
    GPU,
    GPU_SUPPLIES,
    IDENTITY,
    IMAGE,
    SUPPLIES,
    compared,
    container,
    manifest,
    step,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "nodes"
VERSIONS = [f"1.{minor}" for minor in range(29, 37)]
UID = "5d1c7a5e-0000-4000-8000-000000000000"

TORCH = DistributionSpec("torchrun", nodes=2, processes=4, options=("--max_restarts=0",))
FLOW = DistributionSpec("tensorflow", nodes=3)
MPI = DistributionSpec("mpi", nodes=3, processes=2, options=("--bind-to", "core"))
SECRETS = EnvironmentSpec(interpreter="python", image=IMAGE, secrets={"API_KEY": "variable:api_key"})


def job(given=TORCH, target=None, supplies=SUPPLIES, **fields):
    return job_for(step(target, distribution=given, **fields), replace(IDENTITY, made=JOB), supplies)


def mpijob(given=MPI, target=None, supplies=SUPPLIES, **fields):
    return mpijob_for(step(target, distribution=given, **fields), replace(IDENTITY, made=MPI_JOB), supplies)


def examples():
    return {
        "torchrun": job(),
        "torchrun_gpu": job(TORCH, GPU, GPU_SUPPLIES, checkpoint=True, environment=SECRETS),
        "tensorflow": job(FLOW),
        "service": service_for(replace(IDENTITY, made=JOB), UID),
        "mpi": mpijob(),
        "mpi_gpu": mpijob(MPI, GPU, GPU_SUPPLIES, environment=SECRETS),
        "mpi_as_root": mpijob(MPI, {"user": 0, "group": 0}),
    }


NAMES = sorted(examples())


def checked(found):
    """Return what the schemas of Kubernetes know of a manifest: an MPIJob is none of theirs, its pods are."""
    if found["kind"] != "MPIJob":
        return [found]
    replicas = found["spec"]["mpiReplicaSpecs"].values()
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**given["template"]["metadata"], "name": "a"},
            "spec": {**given["template"]["spec"], "restartPolicy": given["restartPolicy"]},
        }
        for given in replicas
    ]


def template(found, role):
    return found["spec"]["mpiReplicaSpecs"][role]["template"]


def value(found, name, variable):
    return next(given for given in container(found, name)["env"] if given["name"] == variable)


@pytest.mark.parametrize("name", NAMES)
def test_the_whole_manifest_is_what_it_was(name):
    found = examples()[name]
    assert found == compared(GOLDEN / f"{name}.json", found)


def test_every_golden_file_is_compared():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == NAMES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_is_valid_for_kubernetes(name, version):
    for found in checked(examples()[name]):
        assert kubernetes_validate.validate(found, version, strict=True) == version


def test_a_pod_of_a_job_is_that_of_a_single_node_but_for_what_makes_it_one_of_many():
    one, many = manifest(), job()["spec"]["template"]
    assert many["spec"].pop("subdomain") == IDENTITY.name
    assert many["metadata"]["labels"].pop("mlpipe/work") == IDENTITY.name
    assert many["metadata"] == {name: one["metadata"][name] for name in ("labels", "annotations")}
    for name in ("base", "mlpipe-publish"):
        for pod in (one, many):
            container(pod, name).pop("env")
            container(pod, name).pop("command")
    assert many["spec"] == one["spec"]


def test_torchrun_is_told_its_node_by_kubernetes_and_the_host_of_node_0():
    command = container(job()["spec"]["template"], "base")["command"]
    assert command[5:] == [
        *("python", "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=4"),
        "--node_rank=$(JOB_COMPLETION_INDEX)",
        f"--master_addr={IDENTITY.name}-0.{IDENTITY.name}",
        *("--master_port=29500", "--monitor_interval=0.1", "--max_restarts=0"),
        *(
            "-m",
            "mlpipe_rank",
            "train.py",
            "--data",
            "/mlpipe/inputs/data",
            "--model=/mlpipe/outputs/model",
            "--c",
            "0.5",
        ),
    ]


def test_a_worker_of_tensorflow_is_told_of_all_hosts_and_which_it_is():
    told = value(job(FLOW)["spec"]["template"], "base", "TF_CONFIG")["value"]
    found = json.loads(told.replace("$(JOB_COMPLETION_INDEX)", "2"))
    assert found["cluster"]["worker"] == [f"{IDENTITY.name}-{node}.{IDENTITY.name}:29500" for node in range(3)]
    assert found["task"] == {"type": "worker", "index": 2}


def test_what_kubernetes_expands_is_declared_before_it():
    names = [given["name"] for given in container(job(FLOW)["spec"]["template"], "base")["env"]]
    assert names.index("JOB_COMPLETION_INDEX") < names.index("TF_CONFIG")


def test_dollars_of_the_command_reach_it_as_they_were_written():
    spec = job(command=(("sh",), ("-c",), ("echo $(JOB_COMPLETION_INDEX) $HOME",)))
    command = container(spec["spec"]["template"], "base")["command"]
    assert command[-1] == "echo $$(JOB_COMPLETION_INDEX) $$HOME"
    assert "--no-python" in command


def test_the_service_finds_the_pods_of_its_job_only_also_before_they_are_ready():
    service = examples()["service"]
    assert service["spec"] == {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {"batch.kubernetes.io/controller-uid": UID},
    }
    assert service["metadata"]["ownerReferences"][0]["kind"] == "Job"


def test_a_queue_admits_the_job_and_not_its_pods():
    for made, pods in ((job(TORCH, GPU, GPU_SUPPLIES), None), (mpijob(MPI, GPU, GPU_SUPPLIES), "Worker")):
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
        found = template(made, pods) if pods else made["spec"]["template"]
        assert "kueue.x-k8s.io/queue-name" not in found["metadata"]["labels"]


def test_the_operator_finds_the_command_first_whatever_containers_a_template_has():
    more = {"pod_template": {"spec": {"containers": [{"name": "more", "image": "more"}]}}}
    found = mpijob(MPI, more)
    for role in ("Launcher", "Worker"):
        assert [given["name"] for given in template(found, role)["spec"]["containers"]] == ["base", "more"]


def test_rank_0_runs_where_the_sidecar_is_and_the_launcher_waits_for_the_workers():
    spec = mpijob()["spec"]
    assert (spec["runLauncherAsWorker"], spec["launcherCreationPolicy"]) == (True, "WaitForWorkersReady")
    assert [given["replicas"] for given in spec["mpiReplicaSpecs"].values()] == [1, 2]
    assert {given["restartPolicy"] for given in spec["mpiReplicaSpecs"].values()} == {"Never"}
    assert (spec["runPolicy"], spec["slotsPerWorker"]) == ({"cleanPodPolicy": "Running", "backoffLimit": 0}, 2)
    assert container(template(mpijob(), "Worker"), "base")["readinessProbe"]["tcpSocket"] == {"port": 2222}


def test_a_worker_has_inputs_and_neither_publishes_nor_has_secrets():
    found = template(mpijob(MPI, GPU, GPU_SUPPLIES, environment=SECRETS), "Worker")
    assert [given["name"] for given in found["spec"]["initContainers"]] == ["mlpipe-stage"]
    assert container(found, "base").keys().isdisjoint({"env", "envFrom"})
    assert container(found, "base")["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_what_the_command_is_told_reaches_ranks_on_other_nodes_secrets_by_name():
    found = template(mpijob(MPI, GPU, GPU_SUPPLIES, environment=SECRETS), "Launcher")
    passed = value(found, "base", "MLPIPE_PASSED_ON")["value"].split()
    assert {"MLPIPE_OUTPUT_MODEL", "AML_PARAMETER_c", "PYTHONPATH", "API_KEY", "HOME"} <= set(passed)


def test_the_operator_is_not_told_what_it_warns_of():
    for role in ("Launcher", "Worker"):
        assert "restartPolicy" not in template(mpijob(), role)["spec"]


def test_ssh_of_root_gets_keys_that_no_group_may_read():
    spec = mpijob(MPI, {"user": 0, "group": 0})["spec"]
    assert spec["sshAuthMountPath"] == "/root/.ssh"
    for given in spec["mpiReplicaSpecs"].values():
        assert not [name for name in given["template"]["spec"]["securityContext"] if name.startswith("fsGroup")]


@pytest.mark.parametrize("role", ["Launcher", "Worker"])
def test_a_namespace_with_the_restricted_policy_admits_the_pods(role):
    found = template(mpijob(), role)["spec"]
    assert found["securityContext"]["runAsNonRoot"] is True
    for each in [*found["initContainers"], *found["containers"]]:
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_longest_names_leave_room_for_what_is_added_to_them():
    identity = PodIdentity("p", "r", "step" * 50, FINGERPRINT, "c", made=MPI_JOB)
    assert len(f"{identity.name}-worker-9999") <= 63
    assert len(f"{replace(identity, made=JOB).name}-staging") <= 63


def test_a_pod_and_what_makes_many_have_secrets_of_their_own():
    assert replace(IDENTITY, made=JOB).name == IDENTITY.name
    assert (
        PodIdentity("p", "r", "s" * 60, FINGERPRINT, "c").name
        != PodIdentity("p", "r", "s" * 60, FINGERPRINT, "c", made=MPI_JOB).name
    )


@pytest.mark.parametrize(
    ("given", "target", "words"),
    [
        (replace(TORCH, outputs="each"), {}, r"outputs_of is each, .*use first"),
        (TORCH, {"work_volume": {"pvc": "scratch"}}, r"one folder of a claim.*use a storage_class"),
        (replace(FLOW, processes=2), {}, r"make processes_per_node 1"),
        (replace(FLOW, options=("-v",)), {}, r"nothing takes the options -v; leave them out"),
    ],
)
def test_what_many_nodes_cannot_do_is_refused_with_a_remedy(given, target, words):
    with pytest.raises(StepError, match=rf"step 'train' cannot run on {given.nodes} nodes of a cluster: .*{words}"):
        job(given, target)


@pytest.mark.parametrize("made", [job, mpijob])
def test_a_step_without_a_command_is_refused(made):
    with pytest.raises(CommandFailedError, match="no command"):
        made(command=())


@pytest.mark.parametrize("made", [job(), mpijob()], ids=["job", "mpijob"])
def test_all_pods_of_an_attempt_are_selected_by_it(made):
    mark(made, 2)
    assert made["metadata"]["annotations"][ATTEMPT] == "2"
    wanted = dict(pair.split("=") for pair in selector(made["metadata"]["name"], 2).split(","))
    makers = made["spec"].get("mpiReplicaSpecs", {"": made["spec"]}).values()
    assert all(wanted.items() <= maker["template"]["metadata"]["labels"].items() for maker in makers)
