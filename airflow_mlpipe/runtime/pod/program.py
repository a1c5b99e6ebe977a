"""The two programs that serve a pod.

What they are told comes in variables (`access.Told`). What goes wrong is printed, and is the container's termination
message (`failure`); the exit code is 1 then.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError, StepError
from airflow_mlpipe.runtime.pod import failure, wrapper
from airflow_mlpipe.runtime.pod.access import Told
from airflow_mlpipe.runtime.pod.fill import empty, fill
from airflow_mlpipe.runtime.pod.sidecar import Sidecar

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

_USAGE = 2


def run(arguments: Sequence[str], stopped: threading.Event) -> int:
    """Run ``init`` or ``sidecar`` and return the exit code.

    :param stopped: set when SIGTERM has arrived.
    """
    if list(arguments) not in (["init"], ["sidecar"]):
        print("usage: python -m airflow_mlpipe.runtime.pod init|sidecar", file=sys.stderr)  # noqa: T201 -- a program
        return _USAGE
    message = Path(os.environ.get("MLPIPE_TERMINATION_LOG") or Told.message)
    try:
        told = Told.by(os.environ)
    except MlpipeError as error:
        return _failed(message, error)
    return _init(told) if arguments[0] == "init" else _sidecar(told, stopped)


def _init(told: Told) -> int:
    try:
        _filled(told)
    except MlpipeError as error:
        with suppress(OSError):  # no sidecar will come to do it
            empty(told.root)
        return _failed(told.message, error)
    return 0


def _filled(told: Told) -> None:
    try:
        fill(told, _say)
    except OSError as error:
        message = f"the step directory cannot be filled: {error}; see the work volume"
        raise StepError(message) from error


def _sidecar(told: Told, stopped: threading.Event) -> int:
    try:
        Sidecar(told, _say, stopped).run()
    except Exception as error:  # noqa: BLE001 -- whatever it is, the user's container waits to be told
        if wrapper.exit_code(told.root) is not None:
            wrapper.say_done(told.root, wrapper.UNPUBLISHED)
        known = isinstance(error, MlpipeError | OSError)
        words = str(error) if known else f"the sidecar cannot go on: {type(error).__name__}: {error}"
        return _failed(told.message, error if isinstance(error, MlpipeError) else StepError(words))
    return 0


def _say(line: str) -> None:
    print(f"mlpipe: {line}", flush=True)  # noqa: T201 -- a program


def _failed(message: Path, error: MlpipeError) -> int:
    _say(f"failed: {error}")
    try:
        failure.write(message, error)
    except OSError as unwritten:
        _say(f"that could not be written to {message}: {unwritten}")
    return 1
