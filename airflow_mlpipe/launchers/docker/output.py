"""What the command of a container prints."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from airflow_mlpipe.runtime.output import Lines, Mask, Tail
from airflow_mlpipe.runtime.tagged import Untagged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Output:
    """What a command prints: secrets hidden, its end kept, each line handed on while it runs.

    Its two streams arrive in pieces, in any order; a line or a secret is put together from the pieces of one of them.
    """

    def __init__(
        self, secrets: Iterable[str], log: Callable[[str], None], untangled: Callable[[], Untagged] = Untagged
    ) -> None:
        values = tuple(secrets)
        self.mask = Mask(values)
        self.tail = Tail()
        self._masks: defaultdict[int, Mask] = defaultdict(lambda: Mask(values))
        self._pieces: defaultdict[int, Untagged] = defaultdict(untangled)
        self._lines: defaultdict[int, Lines] = defaultdict(Lines)
        self._log = log

    def take(self, stream: int, chunk: bytes) -> None:
        """Take the next piece of a stream."""
        for line in self._lines[stream].feed(self._masks[stream].feed(self._pieces[stream].feed(chunk))):
            self._show(line)

    def end(self) -> None:
        """Hand on what has no end of line."""
        for stream, mask in self._masks.items():
            lines = self._lines[stream]
            for line in (*lines.feed(mask.feed(self._pieces[stream].rest()) + mask.rest()), *lines.rest()):
                self._show(line)

    def _show(self, line: str) -> None:
        self.tail.feed(line.encode() + b"\n")
        self._log(line)
