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

PAUSES = (0.1, 0.4, 1.6)
"""Seconds between the tries of something that may pass."""

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
        try:
            return action()
        except _ANSWERS:  # noqa: PERF203 -- trying again is the purpose
            raise
        except Exception as error:
            if not may_pass(error):
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
    reason = str(error) or type(error).__name__
    return StoreUnreachableError(f"the store {without_password(url)} failed: cannot {what}: {reason}; {_remedy(error)}")


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(//[^/:@]*):[^/@]*@", r"\1:***@", url)


def _remedy(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL:
        return "free space there, or choose another store (MLPIPE_STORE, or `store` in the workspace)"
    if number in _REFUSED or isinstance(error, PermissionError):
        return "let this user read and write it, or choose another store (MLPIPE_STORE, or `store` in the workspace)"
    if isinstance(error, _MISPLACED):
        return "there is a file where a folder has to be, or a folder where a file has to be: choose another store"
    return "see that it is up and its credentials are right, then run again"
