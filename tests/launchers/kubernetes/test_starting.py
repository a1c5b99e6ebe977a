from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.starting import CONFIG_SECONDS, Start
from tests.launchers.kubernetes.states import container, ended, event, pod, unschedulable, waiting

RUNS = container("base", running={"startedAt": "now"})
STAGES = container("mlpipe-stage", running={"startedAt": "now"})
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


@pytest.fixture
def said():
    return []


@pytest.fixture
def start(said):
    return Start(60, said.append)


@pytest.mark.parametrize(
    "now", [pod(RUNS, phase="Running"), pod(ended("base", 0)), pod(phase="Failed"), pod(phase="Succeeded")]
)
def test_a_pod_whose_command_runs_or_has_run_is_not_waited_for(start, now):
    assert start.look(now, [], 0) is True


def test_an_event_is_told_once_in_the_apis_words_and_what_goes_without_saying_is_not(start, said):
    events = [
        event("FailedScheduling", NO_GPU),
        event("Scheduled", "assigned", "Normal"),
        event("Pulling", "image x", "Normal"),
    ]
    assert start.look(unschedulable(NO_GPU), events, 0) is False
    assert start.look(unschedulable(NO_GPU), events, 1) is False
    assert said == [f"the pod: FailedScheduling: {NO_GPU}", "the pod: Pulling: image x"]


def test_a_pod_that_is_not_scheduled_in_time_is_given_up_with_the_schedulers_words_and_a_remedy(start):
    start.look(unschedulable(NO_GPU), [], 0)
    start.look(unschedulable(NO_GPU), [], 59)
    with pytest.raises(
        StepError, match=rf"within 60 seconds \(pending_timeout\): {NO_GPU}; ask for what some node has"
    ):
        start.look(unschedulable(NO_GPU), [], 60)


def test_what_was_told_last_is_told_where_the_pod_says_nothing(start):
    start.look(pod(), [event("FailedMount", "no such claim")], 0)
    with pytest.raises(StepError, match="FailedMount: no such claim"):
        start.look(pod(), [], 61)


@pytest.mark.parametrize("now", [pod(STAGES), unschedulable("in the queue", "SchedulingGated")])
def test_neither_bringing_inputs_nor_a_queue_counts_as_not_starting(start, now):
    assert start.look(now, [], 0) is False
    assert start.look(now, [], 3600) is False
    assert start.look(pod(), [], 3659) is False
    with pytest.raises(StepError):
        start.look(pod(), [], 3660)


@pytest.mark.parametrize("name", ["base", "mlpipe-stage", "mlpipe-publish"])
@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("ErrImagePull", "manifest unknown", "correct the image"),
        ("ImagePullBackOff", "Back-off pulling image: failed to resolve: not found", "correct the image"),
        ("ErrImagePull", "pull access denied", "image_pull_secrets"),
        ("InvalidImageName", "couldn't parse", "correct the image"),
        ("ErrImageNeverPull", "", "correct the image"),
    ],
)
def test_an_image_that_cannot_be_pulled_is_named_at_once(start, name, reason, message, remedy):
    with pytest.raises(StepError, match=rf"the image images/{name}:1.* cannot be pulled: {reason}: .*{remedy}"):
        start.look(pod(waiting(name, reason, message)), [], 0)


@pytest.mark.parametrize(
    "message",
    ["dial tcp: i/o timeout", "429 Too Many Requests", "connection refused", "not found: 503 service unavailable"],
)
def test_a_registry_that_may_answer_soon_is_waited_for(start, message):
    now = pod(waiting("base", "ErrImagePull", message))
    assert start.look(now, [], 0) is False
    with pytest.raises(StepError, match=r"pending_timeout"):
        start.look(now, [], 60)


def test_a_container_that_is_refused_may_get_what_it_needs_a_moment_later(start):
    refused = pod(waiting("base", "CreateContainerConfigError", 'secret "mine" not found'))
    assert start.look(refused, [], 0) is False
    assert start.look(pod(), [], 10) is False
    assert start.look(refused, [], 20) is False
    with pytest.raises(
        StepError,
        match=r'container base of the pod cannot be started: .*secret "mine" not found; create what is missing',
    ):
        start.look(refused, [], 20 + CONFIG_SECONDS)


def test_an_image_that_wants_root_is_refused_at_once(start):
    message = "container has runAsNonRoot and image will run as root"
    with pytest.raises(StepError, match="give the target a user that is not 0"):
        start.look(pod(waiting("base", "CreateContainerConfigError", message)), [], 0)
