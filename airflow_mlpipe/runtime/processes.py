"""Processes of a step: being their subreaper, finding every descendant, ending them.

A descendant that leaves its session (`setsid`) or outlives its parent (a double fork) becomes a child of the nearest
subreaper above it, so walking the children of the supervisor finds all of them. What another service starts on a
script's behalf (a container engine, systemd) is no descendant and cannot be found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_PAUSE = 0.01
STUBBORN_SECONDS = 30.0
"""For how long processes may survive SIGKILL (uninterruptible, or of another user) before that is an error."""

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> None:
    """Receive a signal when the parent (to be exact: its thread that started this process) ends."""
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal_number)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def descendants(process: int) -> Iterator[int]:
    """Yield the processes below a process, parents before their children; zombies included."""
    known = _children_by_parent()
    waiting = [process]
    while waiting:
        for child in known.get(waiting.pop(), ()):
            yield child
            waiting.append(child)


def kill_session(session: int) -> None:
    """Kill the processes of a session: what is left to do where a supervisor was killed itself."""
    members = [process for process, (_, _, found) in _all() if found == session]
    _signal(members, signal.SIGKILL)


def _children_by_parent() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for process, (parent, _, _) in _all():
        children.setdefault(parent, []).append(process)
    return children


def _all() -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yield every process with its parent, process group and session."""
    for name in os.listdir("/proc"):  # noqa: PTH208 -- names are all we need, often
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 -- as above
                    status = file.read()
            except OSError:
                continue  # it has ended
            _, parent, group, session = status[status.rindex(b")") + 2 :].split()[:4]  # a name may hold parentheses
            yield int(name), (int(parent), int(group), int(session))


def reap() -> Iterator[tuple[int, int]]:
    """Yield ``(process, exit code)`` of every child that has ended; the code is negative for a signal.

    :raises ChildProcessError: if no child is left.
    """
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        yield process, os.waitstatus_to_exitcode(status)


def end_all(grace: float, pump: Callable[[float], None], ended: Callable[[int, int], None]) -> list[int]:
    """End every descendant of this process: SIGTERM, and SIGKILL for those still there after ``grace`` seconds.

    :param pump: called again and again with the seconds it may wait, to take the output of what is ending.
    :param ended: called with each child that has ended and its exit code.
    :returns: what could not be ended within `STUBBORN_SECONDS`; empty when all is well.
    """
    me = os.getpid()
    begun = time.monotonic()
    warned: set[int] = set()
    while not _all_reaped(ended):
        elapsed = time.monotonic() - begun
        left = list(descendants(me))
        if elapsed >= grace + STUBBORN_SECONDS:
            return left
        if elapsed >= grace:
            _signal(left, signal.SIGKILL)
        else:
            _signal([process for process in left if process not in warned], signal.SIGTERM)
            warned.update(left)
        pump(_PAUSE)
    return []


def _all_reaped(ended: Callable[[int, int], None]) -> bool:
    try:
        for process, code in reap():
            ended(process, code)
    except ChildProcessError:
        return True
    return False


def _signal(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        # gone already, or of another user: those that stay are reported in the end
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)
            if number == signal.SIGTERM:
                os.kill(process, signal.SIGCONT)  # a stopped process would not see it


def name_of(process: int) -> str:
    """Return ``pid (command)`` for messages."""
    try:
        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 -- see above
            return f"{process} ({file.read().strip()})"
    except OSError:
        return str(process)
