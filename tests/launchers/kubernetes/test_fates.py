from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, DataError
from airflow_mlpipe.launchers.kubernetes.fates import disruption, failed, first_failed, lost, merged
from airflow_mlpipe.launchers.kubernetes.sightings import Sightings
from airflow_mlpipe.runtime.pod import failure
from airflow_mlpipe.runtime.protocol import DistributionSpec
from tests.launchers.kubernetes.states import container, ended, pod

TORCH = DistributionSpec("torchrun", nodes=3)
MPI = DistributionSpec("mpi", nodes=3)
TARGET = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}


def at(state, second):
    """Return the state of a container that ended at some second of a minute."""
    state["state"]["terminated"]["finishedAt"] = f"2026-01-01T00:00:{second:02d}Z"
    return state


def node(number, *states, deleted=None, **status):
    """Return the pod of a node of a Job.

    :param deleted: at which second of the minute somebody deleted it.
    """
    made = pod(*states, **status)
    made["metadata"] |= {
        "name": f"mlpipe-train-{number}",
        "uid": f"uid-{number}",
        "annotations": {"batch.kubernetes.io/job-completion-index": str(number)},
    }
    if deleted is not None:
        made["metadata"] |= {
            "deletionTimestamp": f"2026-01-01T00:00:{deleted + 10:02d}Z",
            "deletionGracePeriodSeconds": 10,
        }
    return made


def member(role, index, *states, **fields):
    """Return a pod of an MPIJob."""
    made = node(index, *states, **fields)
    del made["metadata"]["annotations"]
    labels = {"training.kubeflow.org/job-role": role, "training.kubeflow.org/replica-index": str(index)}
    made["metadata"] |= {"labels": labels, "name": f"mlpipe-train-{role}-{index}"}
    return made


def test_the_node_that_failed_first_is_named_and_those_that_were_ended_for_it_are_not():
    pods = [
        node(0, at(ended("base", 143), 9), deleted=6),
        node(2, at(ended("base", 1), 8), phase="Failed"),
        node(1, at(ended("base", 1), 5), phase="Failed"),
    ]
    error = failed(pods, "the Job mlpipe-train", ["mlpipe: rank 1 ended with exit code 7"], TORCH)
    assert first_failed(pods) == pods[2]
    assert str(error).startswith(
        "node 1 of 3: the command ended with exit code 1: rank 1 of 3 exited with code 7 (the others were ended); "
    )


def test_inputs_that_could_not_be_brought_to_a_node_are_told_with_the_node():
    staged = ended("mlpipe-stage", 1, message=failure.dump(DataError("the input is gone")))
    error = failed([node(0, container("base", running={})), node(1, staged, phase="Failed")], "the Job", [], TORCH)
    assert (type(error), str(error)) == (DataError, "node 1 of 3: the input is gone")


def test_a_node_that_ran_out_of_memory_is_named():
    pods = [
        node(0, at(ended("base", 1), 8), phase="Failed"),
        node(1, at(ended("base", 137, "OOMKilled"), 5), phase="Failed"),
    ]
    assert str(failed(pods, "the Job", [], TORCH)).startswith(
        "node 1 of 3: the command ran out of memory: it wanted more"
    )


@pytest.mark.parametrize(
    ("pods", "who"),
    [
        ([node(0, container("base", running={}), deleted=8), node(1, container("base", running={}), deleted=5)], 1),
        ([node(0, at(ended("base", 1), 9), phase="Failed"), node(1, deleted=5)], 1),
        ([node(0, at(ended("base", 1), 5), phase="Failed"), node(1, deleted=5)], None),
        ([node(0, at(ended("base", 1), 5), phase="Failed"), node(1, deleted=7)], None),
        ([member("launcher", 0, at(ended("base", 1), 5)), member("worker", 1, deleted=5)], 1),
        ([member("launcher", 0, at(ended("base", 1), 5)), member("worker", 1, deleted=7)], None),
        ([node(0), node(1)], None),
    ],
)
def test_only_a_pod_that_was_deleted_before_any_failed_is_lost(pods, who):
    found = lost(pods)
    assert (found and found["metadata"]["uid"]) == (None if who is None else f"uid-{who}")


def test_of_pods_that_were_deleted_in_the_same_second_the_first_is_named():
    def version(made, number):
        made["metadata"]["resourceVersion"] = str(number)
        return made

    seen = Sightings([version(node(0), 1), version(node(1), 2)])
    seen.take([version(node(1, deleted=5), 7)])
    seen.take([version(node(0, deleted=5), 9), version(node(1, deleted=5), 11)])
    seen.take([version(node(0), 3)])  # late
    assert [pod["metadata"]["uid"] for pod in seen.pods()] == ["uid-1", "uid-0"]
    assert lost(seen.pods())["metadata"]["uid"] == "uid-1"


def test_a_pod_that_was_deleted_is_named_with_what_was_printed():
    error = failed([node(0), node(1, deleted=5)], "the Job mlpipe-train", ["last"], TORCH)
    assert isinstance(error, CommandFailedError)
    assert str(error) == (
        "node 1 (the pod mlpipe-train-1) of 3 was deleted while the step ran; nothing of it is kept; its last lines:\n    last"
    )


def test_pods_of_which_nobody_knows_the_end_were_deleted():
    error = failed([], "the Job mlpipe-train", [], TORCH)
    assert str(error) == "the pods of the Job mlpipe-train were deleted while the step ran; nothing of them is kept"


def test_mpirun_speaks_for_all_nodes():
    pods = [member("launcher", 0, at(ended("base", 5), 5), phase="Failed"), member("worker", 1, deleted=7)]
    error = failed(pods, "the MPIJob mlpipe-train", ["mlpipe: rank 1 ended with exit code 5"], MPI)
    assert str(error).startswith("the command ended with exit code 5: rank 1 of 3 exited with code 5 (the others")


def test_a_worker_whose_sshd_cannot_run_is_named():
    pods = [
        member("worker", 1, at(ended("base", 127), 5), phase="Failed"),
        member("worker", 2, container("base", running={})),
    ]
    error = failed(pods, "the MPIJob mlpipe-train", ["mlpipe: the image needs sshd"], MPI)
    assert str(error).startswith("node 1 of 3: the command ended with exit code 127: there is no such program")
    assert "the image needs sshd" in str(error)


def test_a_node_that_was_drained_is_no_failure_whatever_the_others_say():
    pods = [node(0, at(ended("base", 1), 6), phase="Failed"), node(1, ended("base", 143), conditions=[TARGET])]
    assert disruption(pods) == "node 1 (the pod mlpipe-train-1): EvictionByEvictionAPI: evicting"
    assert disruption(pods[:1]) is None


def test_how_sshd_ends_says_nothing_of_a_worker_that_was_drained():
    assert disruption([member("worker", 1, ended("base", 255), conditions=[TARGET])]) is not None
    assert disruption([member("launcher", 0, ended("base", 255), conditions=[TARGET])]) is None


def test_lines_of_many_nodes_are_in_the_order_of_time_each_with_its_node():
    first = b"2026-01-01T00:00:01.5Z a\n2026-01-01T00:00:03.1Z c\n"
    second = b"2026-01-01T00:00:02.000000001Z b\nunable to say when\n"
    assert merged({0: first, 1: second}) == [b"[node 0] a", b"[node 1] b", b"[node 0] c"]
    assert merged({0: first}) == [b"a", b"c"]
