"""The one place where whatever a filesystem raises becomes an error of ours, after trying again where that may help."""

from __future__ import annotations

import errno
import re
import time
from typing import TYPE_CHECKING, TypeVar

from airflow_mlpipe.exceptions import MlpipeError, StoreUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PAUSES = (0.1, 0.4, 1.6, 6.4)
"""Seconds between the tries of something that may pass."""

PATIENCE = 20.0
"""Seconds after which a try that failed is not repeated: clients of services have tried again in that time."""

_PASSWORD = re.compile(r"((?<!/)//[^/:@\s]*):[^/@\s]*@")
_USER_OF_HTTP = re.compile(r"(https?://)[^/:@\s]+@", re.IGNORECASE)
"""Who is named there is a token: ``https://ghp_...@host``; elsewhere it is a user or, of Azure, a container."""
_SIGNATURE = re.compile(
    r"([?&](?:sig|[\w-]*(?:signature|token|credential|secret|password|access_?key(?:_?id)?|api[_-]?key))=)[^&\s\"']+",
    re.IGNORECASE,
)

ELSEWHERE = "put the credentials into an Airflow connection, and name a datastore that has it"
"""Where credentials belong, as every URL here is written into plans and records."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.EREMOTEIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_MISPLACED = (FileExistsError, IsADirectoryError, NotADirectoryError)
_ANSWERS = (FileNotFoundError, MlpipeError)
"""What tells the caller something about a path, and nothing about the store."""


def attempt(url: str, what: str, action: Callable[[], T]) -> T:
    """Return what an action on a filesystem returns, trying again after errors that may pass.

    :param url: the filesystem, as a person knows it.
    :param what: what is tried, as in "read log/ab/...".
    :raises FileNotFoundError: as the filesystem does.
    :raises StoreUnreachableError: for every other error, with the remedy.
    """
    try:
        return retried(action)
    except _ANSWERS:
        raise
    except Exception as error:
        raise unreachable(url, what, error) from error


def retried(action: Callable[[], T]) -> T:
    """Return what an action returns, trying again after errors that may pass; the last error is raised as it is."""
    for pause in PAUSES:
        began = time.monotonic()
        try:
            return action()
        except _ANSWERS:
            raise
        except Exception as error:
            if not may_pass(error) or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(pause)
    return action()


def may_pass(error: Exception) -> bool:
    """Say whether the same call may succeed a moment later.

    An error without a number comes from the client of a service; unless it is a refusal, or a fault of the call
    itself, the service may be back soon.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING
    faults = (*_MISPLACED, PermissionError, TypeError, ValueError, NotImplementedError, ImportError)
    return not isinstance(error, faults)


def unreachable(url: str, what: str, error: Exception) -> StoreUnreachableError:
    """Return the error a person gets: which store, what was tried, what to do."""
    reason = without_password(str(error)) or type(error).__name__
    return StoreUnreachableError(f"the store {without_password(url)} failed: cannot {what}: {reason}; {_remedy(error)}")


def without_password(text: str) -> str:
    """Return a URL, or what a filesystem says, as it may be shown: no passwords, no signatures in queries."""
    return _SIGNATURE.sub(r"\1***", _USER_OF_HTTP.sub(r"\1***@", _PASSWORD.sub(r"\1:***@", text)))


def _remedy(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return "free space there, or choose another store (MLPIPE_STORE, or `store` in the workspace)"
    if number == errno.ENXIO:
        return "create it, or correct the URL of the store (MLPIPE_STORE, or `store` in the workspace)"
    if number in _REFUSED or isinstance(error, PermissionError):
        return "let this user read and write it, or choose another store (MLPIPE_STORE, or `store` in the workspace)"
    if isinstance(error, _MISPLACED):
        return "there is a file where a folder has to be, or a folder where a file has to be: choose another store"
    return "see that it is up and its credentials are right, then run again"
