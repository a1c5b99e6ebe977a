"""Which of many processes failed first, as the last lines of their output tell it; pure."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlpipe.runtime.protocol import DistributionSpec

_SIGNALLED = 128
_SELDOM_A_CONSEQUENCE = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
"""Signals that end a rank for its own reasons; other ranks may then fail, and say so, before anybody names it."""

_OWN = re.compile(r"mlpipe: rank (?P<rank>\d+) (?:ended with exit code (?P<code>\d+)|was ended by (?P<name>[\w ]+))")
_TOLD = re.compile(r"mlpipe: (?!rank \d)(?P<what>.+)")
_NO_TORCH = re.compile(r"No module named '?(torch|torch\.distributed(\.run)?)'?[)\s]*$", re.MULTILINE)
_MPI = (
    re.compile(
        r"MPI_ABORT was invoked on rank (?P<rank>\d+) in communicator.{0,200}?error ?code:? (?P<code>\d+)",
        re.DOTALL | re.IGNORECASE,
    ),
    re.compile(r"noticed that process rank (?P<rank>\d+) with PID \d+ on node \S+ exited on\s+signal (?P<number>\d+)"),
    re.compile(r"Process name: \[.*?,(?P<rank>\d+)\]\s+Exit code: +(?P<code>\d+)", re.DOTALL),
    re.compile(r"Abort\((?P<code>\d+)\) on node \d+ \(rank (?P<rank>\d+) in comm"),
)
_TORCH = re.compile(r"rank +: (?P<rank>\d+) \(local_rank: \d+\)\s+exitcode +: (?P<code>-?\d+) \(pid")


def explained(error: str | None, given: DistributionSpec | None, lines: Sequence[str]) -> str | None:
    """Return an error that says how a command ended with the rank that failed first, where the step has many.

    :param error: None for success.
    :param lines: the last lines of the command.
    """
    if error is None or given is None:
        return error
    if told := _told(lines, given.kind):
        return f"{error}: {told}"
    first = _first(lines, given.kind)
    if first is None:
        return error
    count = given.nodes * given.processes
    others = "" if count == 1 else " (the others were ended)"
    return f"{error}: rank {first[0]} of {count} {_words(first[1])}{others}"


def _first(lines: Sequence[str], kind: str) -> tuple[int, int] | None:
    """Return the rank that failed first, and its exit code, negative for a signal."""
    text = "\n".join(lines)
    told = [_ending(found) for found in _OWN.finditer(text)]
    summed: list[tuple[int, int]] = []
    if kind == "torchrun":
        summed = [_ending(found) for found in _TORCH.finditer(text)][::-1]  # the root cause is the last
    elif kind == "mpi":
        summed = [_ending(found) for pattern in _MPI for found in pattern.finditer(text)]
    killed = [ending for ending in (*told, *summed) if -ending[1] in _SELDOM_A_CONSEQUENCE]
    said = {rank for rank, _ in told}
    earlier = [ending for ending in summed if ending[0] not in said]  # what they said is no longer among these lines
    return next(iter((*killed, *earlier, *told, *summed)), None)


def _told(lines: Sequence[str], kind: str) -> str | None:
    """Return what is wrong where no rank has failed by itself."""
    text = "\n".join(lines)
    if found := _TOLD.search(text):
        return found["what"].strip()
    if kind == "torchrun" and _NO_TORCH.search(text):
        return "the Python of the step has no torch; add it to the requirements or the image of its environment"
    return None


def _ending(found: re.Match[str]) -> tuple[int, int]:
    """Return a rank and its exit code, negative for a signal."""
    given = found.groupdict()
    if given.get("number"):
        return int(given["rank"]), -int(given["number"])
    if given.get("name"):
        name = str(given["name"])
        return int(given["rank"]), -int(getattr(signal, name, signal.SIGKILL))
    code = int(given["code"])
    return int(given["rank"]), _SIGNALLED - code if code - _SIGNALLED in set(signal.Signals) else code


def _words(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
