"""Keep a group of services running together, and leave nothing behind.

`python -m airflow_mlpipe.keeper ORDER`, where the order is JSON, ``{"services": {name: {"command": [...], "log": path}},
"grace": seconds}``, starts the services and then waits. It ends them all, with every process they
ever started and the first service last, when one of them ends, when its standard input is closed (so also when whoever started it is killed), or
by SIGTERM. At the end it writes one line of JSON: ``{"ended": name or null, "code": exit code or null}``.

It is a process of its own because only a parent can adopt orphans, and because it must outlive a killed caller.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WORKER_SECONDS = 5.0
"""How long what the services have started, the tasks, has for its clean-up before it is killed."""

_FIRST_SECONDS = 1.0
"""How long the first service has when all others are gone: nobody is left for whom it would have to finish."""


def main() -> None:
    """Run the services of the order until one ends or standard input is closed."""
    order = json.loads(sys.argv[1])
    wakeup = _wake_on_signals()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    services = {_start(**service): name for name, service in order["services"].items()}  # in their order
    ended, code = _watch(services, wakeup)
    _stop_all(services, float(order["grace"]))
    sys.stdout.write(json.dumps({"ended": ended, "code": code}) + "\n")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable when a child ends or this process is asked to end."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for whoever started us
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return readable


def _start(command: list[str], log: str) -> int:
    """Start one service in a session of its own, its output appended to a file; return its process id."""
    keeper = os.getpid()

    def end_with_keeper() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != keeper:
            os._exit(1)

    with Path(log).open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_keeper,  # noqa: PLW1509 - this process has one thread
        )
    process.returncode = 0  # reaped below with the orphans, not by Popen
    return process.pid


def _watch(services: Mapping[int, str], wakeup: int) -> tuple[str | None, int | None]:
    """Wait until a service ends or we are asked to stop; return the service's name and exit code."""
    while True:
        ready, _, _ = select.select([sys.stdin, wakeup], [], [], 5)
        if wakeup in ready and {signal.SIGTERM, signal.SIGHUP} & set(os.read(wakeup, 4096)):
            return None, None
        for process, status in _reap():
            if process in services:
                return services[process], os.waitstatus_to_exitcode(status)
        if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
            return None, None


def _stop_all(services: Mapping[int, str], grace: float) -> None:
    """Ask the services to end, the one that the others use last; who does not, is killed."""
    first, *others = services
    _signal(others, signal.SIGTERM)
    if not _wait_until(lambda: not any(map(_is_child, others)), grace):
        _stop_workers(services)
        _signal(filter(_is_child, others), signal.SIGKILL)
    _signal(filter(_is_child, [first]), signal.SIGTERM)
    if _wait_until(_childless, _FIRST_SECONDS if others else grace):
        return
    _stop_workers(services)
    while not _wait_until(_childless, 0.1):
        _signal(_descendants(), signal.SIGKILL)


def _stop_workers(services: Mapping[int, str]) -> None:
    """Ask what the services run in process groups of its own, the tasks, to end, and wait for its clean-up."""

    def workers() -> list[int]:
        return [process for process, group in _descendants().items() if group not in services]

    _signal(workers(), signal.SIGTERM)
    _wait_until(lambda: not workers(), _WORKER_SECONDS)


def _wait_until(true: Callable[[], bool], seconds: float) -> bool:
    """Reap children until something is true, but not for longer; return whether it is true."""
    end = time.monotonic() + seconds
    while True:
        _reap()
        if true():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.02)


def _is_child(process: int) -> bool:
    """Return whether a service has not ended yet; a process that took over its id is not our child."""
    found = _parent_and_group(Path(f"/proc/{process}"))
    return found is not None and found[0] == os.getpid()


def _childless() -> bool:
    """Return whether no child is left, orphans that we adopted included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _reap() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if not process:
            return ended
        ended.append((process, status))


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(process, number)


def _descendants() -> dict[int, int]:
    """Return the processes below this one, each with its process group."""
    children: dict[int, dict[int, int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if stat := _parent_and_group(folder):
            children.setdefault(stat[0], {})[int(folder.name)] = stat[1]
    below: dict[int, int] = {}
    ahead = [os.getpid()]
    while ahead:
        found = children.get(ahead.pop(), {})
        below |= found
        ahead += found
    return below


def _parent_and_group(folder: Path) -> tuple[int, int] | None:
    """Return the parent and the group of a process, or None if it has ended; nobody may have asked yet how."""
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None
    state, parent, group = text.rpartition(")")[2].split()[:3]  # the name in parentheses may contain anything
    return None if state == "Z" else (int(parent), int(group))


if __name__ == "__main__":
    main()
