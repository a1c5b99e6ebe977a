"""What the command of a pod prints: Kubernetes gives it line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.runtime.output import Mask, Tail, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Printed:
    """Hides secrets, keeps the end, and hands each line on."""

    def __init__(self, secrets: Iterable[str], log: Callable[[str], None]) -> None:
        self.hide = Mask(secrets).hide
        self.tail = Tail()
        self._log = log

    def take(self, line: bytes) -> None:
        """Take a line that the command has printed, with or without its end."""
        shown = self.hide(readable(line.rstrip(b"\n")))
        self.tail.feed(shown.encode() + b"\n")
        self._log(shown)

    def say(self, line: str) -> None:
        """Hand on a line of ours."""
        self._log(self.hide(line))
