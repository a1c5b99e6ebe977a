from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.gathering import Gathering, is_over
from tests.launchers.kubernetes.states import container, ended, event, pod, unschedulable, waiting
from tests.launchers.kubernetes.test_fates import member, node

RUNS = container("base", running={})


def thing(kind="Job", *conditions, suspended=False):
    spec = {"runPolicy": {"suspend": suspended}} if kind == "MPIJob" else {"suspend": suspended}
    told = [{"type": given, "status": "True"} for given in conditions]
    return {
        "kind": kind,
        "metadata": {"name": "mlpipe-train", "uid": "job"},
        "spec": spec,
        "status": {"conditions": told},
    }


def looking(*looks, nodes=2, patience=10):
    """Judge looks, each a moment, a thing, pods and events; return what was said."""
    said = []
    gathering = Gathering(nodes, patience, said.append)
    for now, of, pods, *events in looks:
        gathering.look(of, pods, events[0] if events else {}, now)
    return said, gathering.is_complete()


def stuck(number):
    made = unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    made["metadata"] |= node(number)["metadata"]
    return made


def test_all_that_run_are_complete_and_are_not_given_up_afterwards():
    both = [node(0, RUNS), node(1, RUNS)]
    assert looking((0, thing(), both), (1000, thing(), both)) == ([], True)


def test_the_node_that_does_not_start_is_named_with_what_the_scheduler_says():
    pods = [node(0, RUNS), stuck(1)]
    with pytest.raises(
        StepError, match=r"^node 1 of 2: the pod .*not started within 10 seconds .*Insufficient nvidia.com/gpu"
    ):
        looking((0, thing(), pods), (11, thing(), pods))


def test_an_image_that_a_node_cannot_pull_is_told_at_once():
    pods = [node(0, RUNS), node(1, waiting("base", "ErrImagePull", "not found"))]
    with pytest.raises(StepError, match=r"^node 1 of 2: the image images/base:1 cannot be pulled"):
        looking((0, thing(), pods))


def test_pods_that_a_quota_keeps_from_being_made_are_told_in_the_apis_words():
    told = {"job": [event("FailedCreate", 'Error creating: pods "x" is forbidden: exceeded quota')]}
    with pytest.raises(
        StepError, match=r"1 of 2 pods of the Job mlpipe-train were not made .*FailedCreate: .*exceeded quota"
    ):
        looking(
            (0, thing(), [node(0, RUNS)], told), (11, thing(), [node(0, RUNS)], told), (22, thing(), [node(0, RUNS)])
        )


def test_an_mpijob_that_nobody_looks_after_is_given_up_and_says_what_to_look_at():
    with pytest.raises(
        StepError, match=r"nothing has made pods for the MPIJob mlpipe-train .*see that the MPI operator runs"
    ):
        looking((0, thing("MPIJob"), []), (11, thing("MPIJob"), []))


def test_what_the_operator_refuses_is_told_at_once_though_there_is_no_condition():
    told = {"job": [event("ValidationError", "Found validation errors: spec")]}
    with pytest.raises(StepError, match=r"refuses the job: ValidationError: Found validation errors: spec"):
        looking((0, thing("MPIJob"), [], told))


def test_a_policy_that_admits_no_such_pods_is_told_at_once_with_a_remedy():
    told = {"job": [event("FailedCreate", 'pods "x" is forbidden: violates PodSecurity "restricted:latest"')]}
    with pytest.raises(
        StepError, match=r"no pod can be made: FailedCreate: .*; the namespace does not admit such pods"
    ):
        looking((0, thing(), [], told))


def test_workers_that_do_not_answer_ssh_are_named_when_no_launcher_is_made():
    ready = member("worker", 2, RUNS, conditions=[{"type": "Ready", "status": "True"}])
    pods = [member("worker", 1, RUNS), ready]
    with pytest.raises(StepError, match=r"^node 1 \(the pod mlpipe-train-worker-1\) does not answer ssh at port 2222"):
        looking((0, thing("MPIJob"), pods), (1, thing("MPIJob"), pods), (12, thing("MPIJob"), pods), nodes=3)


def test_a_worker_that_took_the_place_of_another_is_not_taken_for_the_launcher():
    def worker(number, uid):
        made = member("worker", number, RUNS)
        made["metadata"]["uid"] = uid
        return made

    before, after = [worker(1, "a"), worker(2, "b")], [worker(1, "c"), worker(2, "b")]
    with pytest.raises(StepError, match=r"does not answer ssh at port 2222"):
        looking(*((now, thing("MPIJob"), pods) for now, pods in ((0, before), (1, after), (12, after))), nodes=3)


def test_a_pod_that_takes_the_place_of_another_and_does_not_start_is_named():
    late = stuck(1)
    late["metadata"]["uid"] = "another"
    both = [node(0, RUNS), node(1, RUNS)]
    with pytest.raises(StepError, match=r"^node 1 of 2: the pod .*not started within 10 seconds"):
        looking((0, thing(), both), (1, thing(), [both[0], late]), (12, thing(), [both[0], late]))


@pytest.mark.parametrize("kind", ["Job", "MPIJob"])
def test_the_time_in_a_queue_does_not_count(kind):
    held = thing(kind, suspended=True)
    looking((0, held, []), (1000, held, []), (1005, thing(kind), []))


def test_pods_that_are_not_made_again_after_a_queue_took_them_away_are_missed():
    both, held = [node(0, RUNS), node(1, RUNS)], thing(suspended=True)
    with pytest.raises(StepError, match=r"1 of 2 pods of the Job mlpipe-train were not made"):
        looking(
            (0, thing(), both), (1, held, []), (1000, held, []), (1001, thing(), both[:1]), (1012, thing(), both[:1])
        )


def test_the_time_in_which_inputs_are_brought_does_not_count():
    pods = [node(0, RUNS), node(1, container("mlpipe-stage", running={}))]
    assert looking((0, thing(), pods), (1000, thing(), pods), (1009, thing(), [node(0, RUNS), node(1, RUNS)])) == (
        [],
        True,
    )


def test_each_event_is_said_once_with_its_node():
    told = {"job": [event("Suspended", "Job suspended", "Normal")], "uid-0": [event("FailedScheduling", "0/1 nodes")]}
    said, _ = looking((0, thing(), [node(0)], told), (1, thing(), [node(0)], told))
    assert said == ["the job: Suspended: Job suspended", "node 0: the pod: FailedScheduling: 0/1 nodes"]


@pytest.mark.parametrize(
    ("of", "pods", "over"),
    [
        (None, [], True),
        (thing(), [node(0, RUNS), node(1, RUNS)], False),
        (thing("Job", "Complete"), [], True),
        (thing("Job", "FailureTarget"), [], True),
        (thing("MPIJob", "Succeeded"), [], True),
        (thing("MPIJob", "Running"), [member("launcher", 0, ended("base", 0), phase="Succeeded")], True),
        (thing(), [node(0, ended("base", 0), phase="Succeeded"), node(1, RUNS)], False),
        (thing("MPIJob", "Created", "Running"), [member("launcher", 0, RUNS)], False),
        (thing(), [node(0, RUNS), node(1, ended("base", 1), phase="Running")], True),
        (thing(), [node(0, ended("base", 0), phase="Running"), node(1, RUNS)], False),
        (thing("MPIJob"), [member("worker", 1, ended("base", 127), phase="Failed")], True),
        (thing("MPIJob"), [member("worker", 1, ended("base", 255), phase="Failed", deleted=1)], False),
    ],
)
def test_it_is_over_when_the_job_says_so_or_a_pod_has_failed_by_itself(of, pods, over):
    assert is_over(of, pods) is over


def test_a_job_that_is_being_deleted_is_over():
    assert is_over({**thing(), "metadata": {"deletionTimestamp": "now"}}, [pod()])
