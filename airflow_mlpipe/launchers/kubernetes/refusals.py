"""What the API of a cluster refuses, in words that help."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST = 600
_NO_NAMESPACE = re.compile(r'\bnamespaces? "')  # not the name of a pod, which may have the word in it
_UNAUTHORIZED, _FORBIDDEN, _GONE, _EXISTS = 401, 403, 404, 409
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"exceeded quota|must specify .*(limits|requests|memory|cpu)",
        "ask for less, or have the quota of the namespace raised",
    ),
    (
        r"violates PodSecurity",
        "the namespace does not admit such pods: leave user: 0 and hostPath out of the target, or use another namespace",
    ),
    (
        r"cannot \w+ resource",
        "bind the account to a role that may do that in the namespace, such as the one in docker/kubernetes/rbac.yaml",
    ),
    (r"being terminated", "the namespace is being deleted: use another"),
    (r'namespaces? ".*" not found', "create the namespace, or correct namespace of the target"),
    (r"priorityclass|PriorityClass", "correct priority_class of the target"),
    (
        r"service account .* not found|serviceaccount .* not found",
        "create it, or correct service_account of the target",
    ),
    (r"RuntimeClass|runtimeClass", "correct runtime_class of the target"),
    (r"is invalid|unmarshal|strict decoding", "correct the target, or its pod_template"),
)


class NotThereError(Exception):
    """The cluster has no such object."""


class AlreadyThereError(Exception):
    """The cluster has an object of that name already."""


@contextmanager
def said(what: str) -> Iterator[None]:
    """Turn what the client raises in a block into errors that say what could not be done.

    :raises NotThereError: if there is no such object.
    :raises AlreadyThereError: if there is one of that name.
    :raises StepError: for anything else.
    """
    from airflow.sdk.exceptions import AirflowException  # noqa: PLC0415 -- heavy, needed only to run
    from kubernetes.client.exceptions import ApiException  # noqa: PLC0415 -- as above
    from kubernetes.config import ConfigException  # noqa: PLC0415 -- as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- as above

    try:
        yield
    except ApiException as error:
        raise _refused(what, error) from error
    except (ConfigException, AirflowException) as error:
        message = (
            f"cannot {what}: {_short(str(error))}; name a connection of the target that leads to a cluster, "
            "or set KUBECONFIG, or run in a cluster"
        )
        raise StepError(message) from error
    except (HTTPError, OSError) as error:
        message = f"cannot {what}: the API server of the cluster does not answer: {_short(str(error))}"
        raise StepError(message) from error


def _refused(what: str, error: Any) -> Exception:  # noqa: ANN401 -- the client's exception is not typed
    words = words_of(error)
    if error.status == _EXISTS and "AlreadyExists" in str(error.body):
        return AlreadyThereError(words)
    if error.status == _GONE and not _NO_NAMESPACE.search(words):
        return NotThereError(words)
    if error.status == _UNAUTHORIZED:
        return StepError(
            f"cannot {what}: the cluster does not know who asks ({words}); renew the login of the connection"
        )
    return StepError(f"cannot {what}: {_short(words)}{remedy_for(words)}")


def words_of(error: Any) -> str:  # noqa: ANN401 -- as above
    """Return what the API server says of an error."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.body or error.reason or error)


def remedy_for(words: str) -> str:
    """Return what to do about what the API server says, to be added to it."""
    return next((f"; {remedy}" for pattern, remedy in _REMEDIES if re.search(pattern, words)), "")


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
