"""What the command of a pod prints: Kubernetes gives it line by line."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from airflow_mlpipe.runtime.output import Mask, Tail, readable
from airflow_mlpipe.runtime.tagged import Untagged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Taking(Protocol):
    """What takes lines."""

    def take(self, line: bytes) -> None:
        """Take a line, with or without its end."""
        ...


class Printed:
    """Hides secrets, keeps the end, and hands each line on; lines may come from several threads.

    :param pieces: puts the output of many ranks together again.
    """

    def __init__(self, secrets: Iterable[str], log: Callable[[str], None], pieces: Untagged | None = None) -> None:
        self.hide = Mask(secrets).hide
        self.tail = Tail()
        self._log = log
        self._pieces = pieces or Untagged()
        self._lock = threading.Lock()

    def take(self, line: bytes) -> None:
        """Take a line that the command has printed, with or without its end."""
        with self._lock:
            self._show(self._pieces.feed(line.rstrip(b"\n") + b"\n"))

    def end(self) -> None:
        """Hand on what was held back."""
        with self._lock:
            self._show(self._pieces.rest())

    def _show(self, lines: bytes) -> None:
        for line in lines.removesuffix(b"\n").split(b"\n") if lines else ():
            shown = self.hide(readable(line))
            self.tail.feed(shown.encode() + b"\n")
            self._log(shown)

    def last_lines(self, printed: bytes) -> tuple[str, ...]:
        """Return the last lines of a text that was printed; secrets are hidden before anything of it is cut."""
        tail = Tail()
        for line in printed.split(b"\n"):
            tail.feed(self.hide(readable(line)).encode() + b"\n")
        return tail.lines()

    def say(self, line: str) -> None:
        """Hand on a line of ours."""
        self._log(self.hide(line))
