"""Steps on many nodes of a real cluster: Indexed Jobs, and MPIJobs of Kubeflow's operator.

Those of MPI need the operator (``kubectl apply`` of its ``deploy/v2beta1/mpi-operator.yaml``).
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.runtime.protocol import DistributionSpec, EnvironmentSpec, OutputSpec
from tests.integration.kubernetes.running import deferred, launched, nothing_is_left, published, said
from tests.integration.kubernetes.test_disruptions import evict
from tests.integration.kubernetes.test_launcher import reads, worker
from tests.runtime.steps import eventually

pytestmark = [pytest.mark.kubernetes, pytest.mark.s3, pytest.mark.timeout(900)]

MODEL = {"model": OutputSpec()}
TWO = DistributionSpec("torchrun", nodes=2)
THREE = DistributionSpec("mpi", nodes=3)
GRACE = {"spec": {"terminationGracePeriodSeconds": 10}}

SUM = """\
import os, time
import torch, torch.distributed as dist
from mlpipe import Run
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
total = torch.tensor([float(rank + 1)])
dist.all_reduce(total)
run = Run.get_context()
text = open(run.input("data")).read() if "MLPIPE_INPUT_DATA" in os.environ else ""
print("rank", rank, "of", size, "has", total.item(), text.strip())
if rank == 0:
    open(run.output("model"), "w").write(f"{total.item()} {text}")
    run.log("total", total.item())
dist.barrier()
"""

GATHER = """\
import os
from mpi4py import MPI
from mlpipe import Run
world = MPI.COMM_WORLD
rank = world.Get_rank()
run = Run.get_context()
text = open(run.input("data")).read() if "MLPIPE_INPUT_DATA" in os.environ else ""
total = world.allreduce(rank + 1)
hosts = world.gather(MPI.Get_processor_name())
print("rank", rank, "of", world.Get_size(), "has", total, text.strip(), os.environ.get("COLOUR"), os.environ.get("TOKEN"))
if rank == 0:
    open(run.output("model"), "w").write(f"{total} {len(set(hosts))} {text}")
    run.log("total", total)
"""


@pytest.fixture
def torch(bench):
    return _several(bench, "MLPIPE_TEST_TORCH_IMAGE")


@pytest.fixture
def mpi(bench):
    return _several(bench, "MLPIPE_TEST_MPI_IMAGE")


def _several(bench, variable):
    """Have the bench make steps with an image that not everybody has, and pods that find each other."""
    if not os.environ.get(variable):
        said = f"{variable} not set; see tests/integration/kubernetes/cluster.py"
        if "kubernetes" in os.environ.get("MLPIPE_REQUIRE", "").split(","):
            pytest.fail(f"MLPIPE_REQUIRE names kubernetes, but {said}", pytrace=False)
        pytest.skip(f"kubernetes: {said}")
    template = json.loads(json.dumps(GRACE))
    if address := os.environ.get("MLPIPE_TEST_NAMESERVER"):
        searched = [f"{bench.namespace.name}.svc.cluster.local", "svc.cluster.local", "cluster.local"]
        config = {"nameservers": [address], "searches": searched, "options": [{"name": "ndots", "value": "5"}]}
        template["spec"] |= {"dnsPolicy": "None", "dnsConfig": config}
    bench.fields |= {"pod_template": template, "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    kind = "torch" if "TORCH" in variable else "mpi"
    given = TWO if kind == "torch" else THREE

    def step(script, **fields):
        return bench.spec(script, **{"image": kind, "outputs": MODEL, "distribution": given, **fields})

    return step


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    return path


def names(bench):
    return sorted(pod["metadata"]["name"] for pod in bench.namespace.pods())


def things(bench, group="batch", version="v1", plural="jobs"):
    from kubernetes import client

    api = client.CustomObjectsApi(bench.namespace.api.api_client)
    return api.list_namespaced_custom_object(group, version, bench.namespace.name, plural)["items"]


def pod_of(bench, words):
    return next(pod for pod in bench.namespace.pods() if words in pod["metadata"]["name"])


def delete(bench, pod):
    bench.namespace.api.delete_namespaced_pod(pod["metadata"]["name"], bench.namespace.name)


def all_is_left_clean(bench):
    services = bench.namespace.api.list_namespaced_service
    return (
        nothing_is_left(bench)
        and eventually(lambda: bench.namespace.secrets() == [], 60)
        and eventually(lambda: things(bench) == [] and services(bench.namespace.name).items == [], 60)
    )


# torchrun in an Indexed Job


def test_torchrun_on_two_nodes_adds_up_and_rank_0_publishes(bench, torch, data):
    result = bench.launch(torch(SUM, inputs={"data": bench.stored(data)}))
    assert bench.store.read(result.outputs["model"].path) == b"3.0 1,2\n"
    assert result.metrics == {"total": 3.0}
    assert {"[node 0] rank 0 of 2 has 3.0 1,2", "[node 1] rank 1 of 2 has 3.0 1,2"} <= set(bench.logged)
    assert published(bench) == [".result.json", "model"]
    assert all_is_left_clean(bench)


def test_torchrun_on_two_nodes_goes_on_without_its_worker(bench, torch):
    result = deferred(bench, torch(SUM, target={"deferrable": True}))
    assert bench.store.read(result.outputs["model"].path) == b"3.0 "
    assert all_is_left_clean(bench)


def test_two_processes_on_each_of_two_nodes_are_four_ranks(bench, torch):
    result = bench.launch(torch(SUM, distribution=replace(TWO, processes=2)))
    assert bench.store.read(result.outputs["model"].path) == b"10.0 "


def test_the_rank_of_another_node_that_fails_is_named_and_nothing_is_published(bench, torch):
    script = SUM + "if rank == 1:\n    print('no more')\n    raise SystemExit(7)\ntime.sleep(60)\n"
    with pytest.raises(CommandFailedError, match=r"node 1 of 2: .*rank 1 of 2 exited with code 7"):
        bench.launch(torch(script))
    assert "[node 1] no more" in bench.logged
    assert published(bench) == []
    assert all_is_left_clean(bench)


def test_a_failure_is_told_alike_when_it_was_waited_for_without_a_worker(bench, torch):
    script = SUM + "if rank == 1:\n    raise SystemExit(7)\ntime.sleep(60)\n"
    with pytest.raises(CommandFailedError, match=r"node 1 of 2: .*rank 1 of 2 exited with code 7"):
        deferred(bench, torch(script, target={"deferrable": True}))
    assert published(bench) == []
    assert all_is_left_clean(bench)


def test_rank_0_that_ends_well_is_not_enough_where_another_fails_later(bench, torch):
    script = SUM.replace("dist.barrier()", "dist.destroy_process_group()")
    script += "if rank == 1:\n    time.sleep(8)\n    raise SystemExit(7)\n"
    with pytest.raises(CommandFailedError, match="rank 1 of 2 exited with code 7"):
        bench.launch(torch(script))
    assert published(bench) == []


def test_a_pod_that_somebody_deletes_is_named(bench, torch):
    thread, ended, _ = launched(bench, torch(SUM + "time.sleep(300)\n"))
    said(bench, "rank 1 of 2 has", 240)
    delete(bench, next(pod for pod in bench.namespace.pods() if pod["spec"]["hostname"].endswith("-1")))
    thread.join(timeout=120)
    assert isinstance(ended[0], CommandFailedError)
    assert "node 1 (the pod mlpipe-" in str(ended[0])
    assert "of 2 was deleted while the step ran" in str(ended[0])
    assert published(bench) == []
    assert all_is_left_clean(bench)


def test_a_worker_is_killed_and_another_goes_on_with_its_job(bench, torch):
    spec = torch(SUM + "time.sleep(20)\nprint('ended', rank)\n")
    first = worker(bench, spec)
    reads(first, "rank 1 of 2 has")
    first.kill()
    first.communicate()
    before = names(bench)
    result = bench.launch(spec)
    assert bench.logged[0].startswith("goes on with the Job mlpipe-")
    assert bench.store.read(result.outputs["model"].path) == b"3.0 "
    assert len(before) == 2
    assert {"[node 0] ended 0", "[node 1] ended 1"} <= set(bench.logged)
    assert all_is_left_clean(bench)


def test_a_step_that_is_killed_leaves_neither_job_nor_pod(bench, torch):
    thread, ended, launcher = launched(bench, torch(SUM + "time.sleep(300)\n"))
    said(bench, "rank 1 of 2 has", 240)
    launcher.kill()
    launcher.kill()
    thread.join(timeout=60)
    assert isinstance(ended[0], CommandFailedError)
    assert "was stopped" in str(ended[0])
    assert all_is_left_clean(bench)
    assert published(bench) == []


def test_a_node_that_nobody_has_room_for_is_told_and_given_up_in_time(bench, torch):
    began = time.monotonic()
    with pytest.raises(
        StepError,
        match=r"node [01] of 2: .*not started within 15 seconds \(pending_timeout\): .*Insufficient nvidia.com/gpu",
    ):
        bench.launch(torch(SUM, target={"gpus": 2, "pending_timeout": 15}))
    assert time.monotonic() - began < 90
    assert all_is_left_clean(bench)


def test_a_node_that_is_drained_has_all_begun_anew(bench, torch):
    script = "import os\nfrom pathlib import Path\nfrom mlpipe import Run\nagain = Path('../checkpoint/begun')\n"
    script += SUM + "if not again.exists():\n    again.touch()\n    time.sleep(300)\n"
    thread, ended, _ = launched(bench, torch(script, checkpoint=True))
    said(bench, "rank 1 of 2 has", 240)
    time.sleep(6)
    for pod in bench.namespace.pods():
        if pod["spec"]["hostname"].endswith("-0"):
            evict(_Only(bench.namespace, pod))
    thread.join(timeout=240)
    assert bench.store.read(ended[0].outputs["model"].path) == b"3.0 "
    assert any("was taken away: node 0 " in line for line in bench.logged), bench.logged
    assert all_is_left_clean(bench)


class _Only:
    """A namespace as if it had one pod."""

    def __init__(self, namespace, pod):
        self.api, self.name, self._pod = namespace.api, namespace.name, pod

    def pods(self):
        return [self._pod]


def test_every_worker_of_tensorflow_knows_the_others(bench, torch):
    script = "import json, os\nfrom mlpipe import Run\ntold = json.loads(os.environ['TF_CONFIG'])\n"
    script += (
        "index = told['task']['index']\nprint('worker', index, told['cluster']['worker'], os.environ['MLPIPE_RANK'])\n"
    )
    script += "open(Run.get_context().output('model'), 'w').write(str(index))\n"
    result = bench.launch(torch(script, distribution=DistributionSpec("tensorflow", nodes=2)))
    assert bench.store.read(result.outputs["model"].path) == b"0"
    (line,) = [line for line in bench.logged if line.startswith("[node 1] worker 1 ")]
    assert line.count(":29500") == 2


# MPI by Kubeflow's operator


@pytest.fixture
def operator(bench):
    """Skip where the cluster has no MPIJob."""
    from kubernetes import client

    try:
        things(bench, "kubeflow.org", "v2beta1", "mpijobs")
    except client.ApiException:
        if "mpi-operator" in os.environ.get("MLPIPE_REQUIRE", "").split(","):
            pytest.fail("MLPIPE_REQUIRE names mpi-operator, but the cluster has none", pytrace=False)
        pytest.skip("kubernetes: the cluster has no MPI operator")


def test_an_mpi_step_on_many_nodes_without_the_operator_says_what_to_install(bench, mpi):
    from kubernetes import client

    try:
        things(bench, "kubeflow.org", "v2beta1", "mpijobs")
    except client.ApiException:
        with pytest.raises(
            StepError, match=r"knows no MPIJob of kubeflow.org/v2beta1; install Kubeflow's MPI operator .*torchrun"
        ):
            bench.launch(mpi(GATHER))
        assert all_is_left_clean(bench)
        return
    pytest.skip("kubernetes: the cluster has the MPI operator")


@pytest.mark.usefixtures("operator")
def test_mpi_on_a_launcher_and_two_workers_adds_up_and_rank_0_publishes(bench, mpi, data):
    environment = EnvironmentSpec(variables={"COLOUR": "blue"}, secrets={"TOKEN": "variable:token"})
    spec = mpi(GATHER, inputs={"data": bench.stored(data)}, environment=environment)
    result = bench.launch(spec, secrets={"TOKEN": "s3cr3t-t0k3n"})
    assert bench.store.read(result.outputs["model"].path) == b"6 3 1,2\n"
    assert result.metrics == {"total": 6.0}
    assert {f"[{rank}] rank {rank} of 3 has 6 1,2 blue ***" for rank in range(3)} <= set(bench.logged)
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_mpi_on_many_nodes_goes_on_without_its_worker(bench, mpi):
    result = deferred(bench, mpi(GATHER, target={"deferrable": True}))
    assert bench.store.read(result.outputs["model"].path) == b"6 3 "
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_the_rank_of_mpi_that_fails_is_named_and_nothing_is_published(bench, mpi):
    script = GATHER + "if rank == 1:\n    print('no more')\n    raise SystemExit(5)\nworld.barrier()\n"
    with pytest.raises(
        CommandFailedError, match=r"^the command ended with exit code 5: rank 1 of 3 exited with code 5"
    ):
        bench.launch(mpi(script))
    assert "[1] no more" in bench.logged
    assert published(bench) == []
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_a_worker_of_mpi_that_somebody_deletes_is_named(bench, mpi):
    thread, ended, _ = launched(bench, mpi(GATHER + "import time\ntime.sleep(300)\n"))
    said(bench, "rank 2 of 3 has", 240)
    delete(bench, pod_of(bench, "-worker-1"))
    thread.join(timeout=120)
    assert isinstance(ended[0], CommandFailedError)
    assert "node 2 (the pod mlpipe-" in str(ended[0])
    assert "was deleted while the step ran" in str(ended[0])
    assert published(bench) == []
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_a_worker_of_airflow_is_killed_and_another_goes_on_with_its_mpijob(bench, mpi):
    spec = mpi(GATHER + "import time\ntime.sleep(20)\nprint('ended', rank)\n")
    first = worker(bench, spec)
    reads(first, "rank 2 of 3 has")
    first.kill()
    first.communicate()
    result = bench.launch(spec)
    assert bench.logged[0].startswith("goes on with the MPIJob mlpipe-")
    assert bench.store.read(result.outputs["model"].path) == b"6 3 "
    assert "[2] ended 2" in bench.logged
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_an_mpi_step_that_is_killed_leaves_nothing(bench, mpi):
    thread, ended, launcher = launched(bench, mpi(GATHER + "import time\ntime.sleep(300)\n"))
    said(bench, "rank 2 of 3 has", 240)
    launcher.kill()
    thread.join(timeout=60)
    assert "was stopped" in str(ended[0])
    assert all_is_left_clean(bench)
    assert things(bench, "kubeflow.org", "v2beta1", "mpijobs") == []


@pytest.mark.usefixtures("operator")
def test_a_worker_of_mpi_that_stays_pending_is_told_and_given_up_in_time(bench, mpi):
    began = time.monotonic()
    with pytest.raises(
        StepError, match=r"node [123] of 4: .*not started within 20 seconds \(pending_timeout\): .*Insufficient"
    ):
        bench.launch(mpi(GATHER, target={"gpus": 1, "pending_timeout": 20}, distribution=replace(THREE, nodes=4)))
    assert time.monotonic() - began < 90
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_an_image_without_sshd_is_named_by_the_node_that_wants_it(bench, mpi):
    with pytest.raises(CommandFailedError, match=r"node [12] of 3: .*needs sshd, ssh and mpirun"):
        bench.launch(mpi(GATHER, image="python"))
    assert all_is_left_clean(bench)


@pytest.mark.usefixtures("operator")
def test_root_runs_mpi_too(bench, mpi):
    result = bench.launch(mpi(GATHER, target={"user": 0, "group": 0}, distribution=replace(THREE, nodes=2)))
    assert bench.store.read(result.outputs["model"].path) == b"3 2 "


def test_mpi_on_one_node_is_one_pod_and_needs_no_operator(bench, mpi):
    result = bench.launch(mpi(GATHER, distribution=DistributionSpec("mpi", processes=2)))
    assert bench.store.read(result.outputs["model"].path) == b"3 1 "
    assert "[1] rank 1 of 2 has 3  None None" in bench.logged
