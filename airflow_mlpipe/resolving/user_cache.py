"""The user's cache folder on this machine, and doing one thing at a time in it."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import EnvironmentBuildError

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_folder() -> Path:
    """Return the cache folder: ``$MLPIPE_CACHE``, else ``$XDG_CACHE_HOME/mlpipe``, else ``~/.cache/mlpipe``."""
    if chosen := os.environ.get("MLPIPE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "mlpipe"


@contextmanager
def alone(path: Path) -> Iterator[int]:
    """Hold a file that one process holds at a time; yield its descriptor.

    A child that keeps the descriptor open goes on holding it, should this process die.

    :raises EnvironmentBuildError: if the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"the cache {str(path.parent)!r} cannot be written ({error.strerror}): set MLPIPE_CACHE to a folder"
        raise EnvironmentBuildError(message) from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield number
    finally:
        os.close(number)
