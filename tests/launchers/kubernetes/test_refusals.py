from __future__ import annotations

import json

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import MaxRetryError

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes.refusals import AlreadyThereError, NotThereError, said


def refused(status, message, reason=""):
    error = ApiException(status=status, reason=reason)
    error.body = json.dumps({"message": message, "reason": reason})
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            refused(403, 'pods "x" is forbidden: exceeded quota: none, requested: pods=1'),
            "exceeded quota: none.*; ask for less",
        ),
        (
            refused(403, 'pods "x" is forbidden: violates PodSecurity "restricted:latest"'),
            "PodSecurity.*; the namespace does not admit",
        ),
        (refused(403, 'User "u" cannot create resource "pods" in API group ""'), "; bind the account to a role"),
        (refused(404, 'namespaces "ml" not found'), "; create the namespace"),
        (refused(401, "Unauthorized"), "does not know who asks"),
        (refused(422, 'Pod "x" is invalid: spec.containers'), "; correct the target"),
        (ConfigException("Invalid kube-config file. No configuration found."), "or set KUBECONFIG"),
        (MaxRetryError(None, "/", "refused"), "does not answer"),
    ],
)
def test_what_the_api_refuses_is_told_on_one_line_with_a_remedy(error, words):
    with (
        pytest.raises(
            StepError, match=rf"cannot create the pod x: .*{words}|cannot create the pod x.*{words}"
        ) as caught,
        said("create the pod x"),
    ):
        raise error
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_there_or_not_there_is_told_apart():
    with pytest.raises(NotThereError), said("read"):
        raise refused(404, 'pods "x" not found')
    with pytest.raises(AlreadyThereError), said("create"):
        raise refused(409, 'pods "x" already exists', "AlreadyExists")
    with pytest.raises(StepError), said("create"):
        raise refused(409, "the object has been modified", "Conflict")


def test_a_long_answer_is_cut():
    with pytest.raises(StepError) as caught, said("create"):
        raise refused(500, "x" * 5000)
    assert len(str(caught.value)) < 700


def test_a_step_may_have_the_word_namespace_in_its_name():
    with pytest.raises(NotThereError), said("read"):
        raise refused(404, 'pods "find-namespace-ab12" not found')
