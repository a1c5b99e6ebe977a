"""Follows a run that another process makes, and tells what happens as it happens."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.cli.launch import Launched

_PAUSE = 0.1


class Told(Protocol):
    """Who is told what happens."""

    def starts(self, task: str) -> None:
        """Hear that a task begins."""

    def ends(self, task: str, state: str) -> None:
        """Hear that a task, or a try of it, has ended."""

    def log(self, line: str) -> None:
        """Hear a line of the log."""

    def passes(self) -> None:
        """Hear that a moment has passed."""


@dataclass
class Followed:
    """What is known of a run at its end.

    ``state`` is None if it never came to an end. ``errors`` holds the last error of each task that failed, and
    ``plan`` among them is Airflow's task of that name.
    """

    state: str | None = None
    errors: dict[str, str] = field(default_factory=dict)


def follow(launched: Launched, told: Told, *, verbose: bool) -> Followed:
    """Wait until a run has ended.

    :param verbose: whether the lines of its log are told too.
    """
    followed = Followed()
    events, log = Tail(launched.events), Tail(launched.log)
    while True:
        over = launched.ended()  # asked first, so that nothing written before the end is missed
        for line in events.lines():
            _take(json.loads(line), followed, told)
        if verbose:
            _each(log.lines(), told.log)
        if over:
            return followed
        told.passes()
        time.sleep(_PAUSE)


class Tail:
    """Reads what is appended to a file, line by line; half a line waits for its end."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._position = 0

    def lines(self) -> list[str]:
        """Return the lines that have been added since the last time."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as opened:
            opened.seek(self._position)
            content = opened.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode(errors="replace").splitlines()


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last lines of a file."""
    if not file.exists():
        return []
    return file.read_text(errors="replace").splitlines()[-count:]


def _take(event: dict[str, Any], followed: Followed, told: Told) -> None:
    if "task" not in event:
        followed.state = event["state"]
    elif event["state"] == "running":
        followed.errors.pop(event["task"], None)
        told.starts(event["task"])
    else:
        if event["state"] == "failed":
            followed.errors[event["task"]] = event["error"]
        told.ends(event["task"], event["state"])


def _each(lines: list[str], tell: Callable[[str], None]) -> None:
    for line in lines:
        tell(line)
