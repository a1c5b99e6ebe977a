"""Who holds a claim, and whether that process still lives."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path

_ENDED = ("Z", "X")
_TAG = re.compile(r"(?P<process>[0-9]+)-(?P<start>[0-9]+)-(?P<place>[0-9a-f]{12})\Z")
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

    def anywhere(self) -> Owner:
        """Return the same owner without a process: what it has begun goes on elsewhere, and only its beat tells."""
        return replace(self, process="", boot="")

    def is_superseded_by(self, other: Owner) -> bool:
        """Say whether another owner is a later try of the same task instance."""
        same = self.task_instance is not None and self.task_instance == other.task_instance
        return same and self.try_number < other.try_number


def process_tag() -> str:
    """Return what tells this process from all others, for the name of a file; empty where that cannot be told."""
    process, _, rest = _process().partition("/")
    return f"{process}-{rest.partition('/')[0]}-{_place()}" if rest else ""


def has_ended(tag: str) -> bool:
    """Say whether the process that a tag tells is known to have ended; see `Owner.is_dead`."""
    match = _TAG.match(tag)
    return match is not None and match["place"] == _place() and _has_ended(int(match["process"]), match["start"])


def _place() -> str:
    """Return what the numbers of processes are valid in, in short: host, boot and namespace."""
    return hashlib.sha256(f"{socket.gethostname()}\0{_boot()}\0{_namespace()}".encode()).hexdigest()[:12]


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
