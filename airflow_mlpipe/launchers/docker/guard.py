"""Ends the container of a step when the launcher cannot: a process of its own, which outlives a killed worker.

The launcher starts it before the container is created and holds the other end of its standard input. The first thing
that arrives there says what to do: `DONE`, the container is gone already; `KILL`, or nothing any more because the
launcher has ended (a ``kill -9`` of the worker closes its pipes), the container is to be ended and removed. It is
stopped first, so that the command may react to SIGTERM, and killed when it has not within the grace period. The folder
with the certificates that it needs for that is its own from then on, and is removed last.

It removes no other container than that of its launcher's claim: a retry of the step gives its own the same name. An
engine that does not answer, as one that restarts, is asked again for `PATIENCE` seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from typing import Any

DONE = b"done"
KILL = b"kill"
CLAIM = "mlpipe.claim"
"""The label of a container that says whose it is."""

PATIENCE = 600.0
_APPEARS = 5.0
"""How long a container may still appear that its launcher was just creating."""
_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


def main() -> None:
    """Wait for the launcher's word, then end the container it names unless that is done."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever stops the worker does not mean this process
    order = json.loads(sys.argv[1])
    if os.read(0, 16) != DONE:
        sys.path += order["path"]
        end(order)
        shutil.rmtree(order["certificates"], ignore_errors=True)


def end(order: dict[str, Any]) -> None:
    """End and remove a container, however long the engine takes to answer."""
    began, pause = time.monotonic(), _PAUSE
    while time.monotonic() - began < PATIENCE:
        with contextlib.suppress(Exception):  # whatever an engine that restarts says, or does not
            if _removed(order) or time.monotonic() - began > _APPEARS:
                return
            pause = _PAUSE
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _removed(order: dict[str, Any]) -> bool:
    """Remove the container; return whether there was one."""
    from docker import APIClient, TLSConfig  # noqa: PLC0415 -- needed only when something went wrong
    from docker.errors import NotFound  # noqa: PLC0415 -- as above

    tls = TLSConfig(**order["tls"]) if order["tls"] else False
    client = APIClient(base_url=order["host"], version="auto", tls=tls, timeout=order["grace"] + 30)
    try:
        found = client.inspect_container(order["name"])
        if found["Config"]["Labels"].get(CLAIM) != order["claim"]:
            return True  # a later try of the step has the name by now
        client.stop(found["Id"], timeout=order["grace"])
        client.remove_container(found["Id"], v=True, force=True)
    except NotFound:
        return False
    return True


if __name__ == "__main__":
    main()
