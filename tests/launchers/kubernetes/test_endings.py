from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import CommandFailedError, DataError, InputLostError, OutputMissingError, StepError
from airflow_mlpipe.launchers.kubernetes.endings import disruption, failed, taken
from airflow_mlpipe.runtime.pod import failure
from tests.launchers.kubernetes.states import container, ended, event, pod

TARGET = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "evicting"}
PRESSURE = "The node was low on resource: memory. Container base was using 3Gi, request is 1Gi, has larger consumption"


def said_of(now, tail=("last",)):
    error = failed(now, "mlpipe-train", tail)
    return type(error), str(error)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (pod(ended("base", 143), conditions=[TARGET], leaving=True), "EvictionByEvictionAPI: evicting"),
        (pod(conditions=[TARGET]), "EvictionByEvictionAPI: evicting"),
        (pod(ended("base", 137), phase="Failed", reason="Evicted", message=PRESSURE), f"Evicted: {PRESSURE}"),
        (pod(phase="Failed", reason="NodeShutdown", message="off"), "NodeShutdown: off"),
        (pod(ended("base", 0), conditions=[TARGET]), None),
        (pod(ended("base", 3), conditions=[TARGET], leaving=True), None),
        (pod(ended("base", 137), leaving=True), None),
        (pod(phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "w" exceeds the limit "1Mi".'), None),
        (
            pod(phase="Failed", reason="Evicted", message="Container base exceeded its local ephemeral storage limit"),
            None,
        ),
        (pod(phase="Failed", reason="DeadlineExceeded", message="too long"), None),
    ],
)
def test_only_what_others_did_to_a_pod_is_a_disruption(now, words):
    assert disruption(now) == words


@pytest.mark.parametrize(
    ("now", "own"),
    [
        (None, False),
        (pod(ended("base", 143), leaving=True), False),
        (pod(ended("base", 143), conditions=[TARGET]), False),
        (pod(ended("base", 137), phase="Failed", reason="Evicted", message=PRESSURE), False),
        (pod(phase="Failed", reason="NodeShutdown", message="off"), False),
        (pod(ended("mlpipe-stage", 137, "OOMKilled"), phase="Failed"), False),
        (pod(ended("base", 3), phase="Failed"), True),
        (pod(ended("base", 137, "OOMKilled"), phase="Failed"), True),
        (pod(phase="Failed", reason="DeadlineExceeded", message="too long"), True),
    ],
)
def test_a_step_has_failed_by_itself_unless_others_took_its_pod_away_or_it_never_began(now, own):
    assert failed(now, "mlpipe-train", ("last",)).own is own


def test_events_tell_what_took_away_a_pod_that_is_gone():
    assert taken([event("Pulled", "x"), event("Preempted", "by another")]) == "Preempted: by another"
    assert taken([event("Killing", "Stopping container base")]) is None


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (ended("base", 7), "the command ended with exit code 7; its last lines:\n    last"),
        (
            ended("base", 137, "OOMKilled"),
            "wanted more than the 1Gi it may use (exit code 137, OOMKilled); give the step more memory",
        ),
        (ended("base", 137), "exit code 137 (SIGKILL); perhaps a process of it ran out of memory"),
        (ended("base", 139), "exit code 139 (SIGSEGV)"),
        (ended("base", 127), "exit code 127: there is no such program in the image"),
        (ended("base", 126), "exit code 126: it is no program for this machine"),
        (ended("base", 74), "its volume is full; give the work volume more space"),
        (ended("base", 250), "exit code 250;"),
    ],
)
def test_a_command_that_failed_is_told_in_few_lines(base, words):
    kind, said = said_of(pod(base, phase="Failed"))
    assert kind is CommandFailedError
    assert words in said
    assert len(said.splitlines()) <= 3


def test_what_a_staging_container_says_is_the_error_itself():
    lost = InputLostError("gone", "outputs/x", "damaged")
    kind, said = said_of(pod(ended("mlpipe-stage", 1, message=failure.dump(lost)), phase="Failed"))
    assert (kind, said) == (InputLostError, "gone")
    missing = failure.dump(OutputMissingError("output 'model' was not written"))
    publish = ended("mlpipe-publish", 0, message=missing)
    assert said_of(pod(publish, ended("base", 65), phase="Failed"))[0] is OutputMissingError
    restarted = {
        **container("mlpipe-publish", running={}),
        "lastState": {"terminated": {"exitCode": 1, "message": missing}},
    }
    assert said_of(pod(restarted, ended("base", 65)))[0] is OutputMissingError


def test_a_staging_container_that_is_killed_is_told_with_a_remedy():
    kind, said = said_of(pod(ended("mlpipe-stage", 137, "OOMKilled"), phase="Failed"))
    assert kind is StepError
    assert "exit code 137 (OOMKilled); give staging_resources more memory" in said
    _, said = said_of(pod(ended("mlpipe-publish", 137, "OOMKilled"), ended("base", 0), phase="Succeeded"))
    assert "the command succeeded, but its outputs were not published: mlpipe-publish" in said


def test_a_pod_that_was_deleted_or_took_too_much_is_told_as_that():
    assert "was deleted while the step ran" in said_of(None)[1]
    assert "was deleted while the step ran" in said_of(pod(ended("base", 143), leaving=True))[1]
    _, said = said_of(
        pod(phase="Failed", reason="Evicted", message='Usage of EmptyDir volume "w" exceeds the limit "1Mi".')
    )
    assert 'Usage of EmptyDir volume "w" exceeds the limit "1Mi".; give the step more disk' in said
    assert not isinstance(failed(None, "x", ()), DataError)
