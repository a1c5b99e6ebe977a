"""Who holds a claim, and whether that process still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_ENDED = ("Z", "X")
_START = 19
"""Which field after the name holds the start time, in ticks since boot."""


@dataclass(frozen=True)
class Owner:
    """Who claims. ``process`` is ``<pid>/<start time>/<pid namespace>``, ``task_instance`` ``dag/run/task/map``.

    ``boot`` and ``process`` are empty where the operating system does not tell; nobody is judged by them then.
    """

    host: str
    process: str
    boot: str
    pipeline: str
    run: str
    step: str
    task_instance: str | None
    try_number: int

    @classmethod
    def here(cls, pipeline: str, run: str, step: str, task_instance: str | None = None, try_number: int = 1) -> Owner:
        """Return this very process as an owner."""
        return cls(socket.gethostname(), _process(), _boot(), pipeline, run, step, task_instance, try_number)

    def is_dead(self) -> bool:
        """Say whether the process is known to have ended. Only one of this boot and pid namespace can be known."""
        process, _, rest = self.process.partition("/")
        start, _, namespace = rest.partition("/")
        there = (self.host, self.boot, namespace)
        if not (process.isdecimal() and start and all(there)) or there != (socket.gethostname(), _boot(), _namespace()):
            return False
        return _has_ended(int(process), start)

    def is_superseded_by(self, other: Owner) -> bool:
        """Say whether another owner is a later try of the same task instance."""
        same = self.task_instance is not None and self.task_instance == other.task_instance
        return same and self.try_number < other.try_number


def _process() -> str:
    status, namespace = _status(os.getpid()), _namespace()
    return f"{os.getpid()}/{status[_START]}/{namespace}" if status and namespace else ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 -- a name, not a path
    except OSError:  # no Linux
        return ""


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:  # no Linux
        return ""


def _has_ended(process: int, start: str) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and there
        pass
    status = _status(process)
    return status is not None and (status[0] in _ENDED or status[_START] != start)


def _status(process: int) -> list[str] | None:
    """Return what /proc tells of a process, from its state on; None if it does not tell."""
    try:
        text = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name in parentheses may contain anything
