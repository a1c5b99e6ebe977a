"""The launcher's end of the guard of a container; see `airflow_mlpipe.launchers.docker.guard`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from airflow_mlpipe.launchers.docker import guard

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

    from airflow_mlpipe.launchers.docker.container import Container
    from airflow_mlpipe.resolving.addresses import Address

STOP_SECONDS = 5
"""Seconds that a command has to end by itself when the step is stopped, as on a local target."""


class Guard:
    """A guard that has been started for one container; leaving its block undismissed lets it do its work.

    :param certificates: the folder with those of the engine: who was not dismissed removes it in the end.
    """

    def __init__(self, address: Address, container: Container, certificates: Path) -> None:
        order = {
            "host": address.host,
            "tls": address.tls,
            "name": container.name,
            "claim": container.claim,
            "grace": STOP_SECONDS,
            "certificates": str(certificates),
            "path": list(filter(None, sys.path)),
        }
        reader, self._writer = os.pipe()
        self.is_dismissed = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, json.dumps(order)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in ("HOME", "PATH", "LD_LIBRARY_PATH") if name in os.environ},
                start_new_session=True,  # who ends the worker's session or group does not end it
            )
        finally:
            os.close(reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._writer)  # undismissed, it does its work
        if self.is_dismissed:
            self._process.wait()

    def dismiss(self) -> None:
        """Say that the container is gone."""
        self.is_dismissed = True
        self._say(guard.DONE)

    def kill(self) -> None:
        """Have the container ended, and wait for that; may be called by a signal handler, whatever it interrupts."""
        self._say(guard.KILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
            self._process.wait(timeout=2 * STOP_SECONDS)

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended, or was killed
            os.write(self._writer, word)
