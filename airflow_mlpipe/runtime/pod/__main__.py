"""Serve a pod: ``python -m airflow_mlpipe.runtime.pod init``, then beside the command ``... sidecar``.

The first process of a container is not ended by a signal that it does not handle, so SIGTERM is handled before
anything is imported that takes long; else a pod that is deleted early would stay for its whole grace period.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

_STOPPED = 143


def main(arguments: list[str]) -> int:
    """Run one of the two programs and return the exit code."""
    stopped = threading.Event()
    if arguments == ["sidecar"]:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(_STOPPED))
    from airflow_mlpipe.runtime.pod.program import run  # noqa: PLC0415 -- see above

    return run(arguments, stopped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
