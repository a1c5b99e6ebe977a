"""The output of many ranks in one stream, put together again line by line.

``mpirun`` writes the name of a rank before each piece that it gets from it, ``[1,3]<stdout>:``, and a piece need not be
a line: it cuts what is longer than 4,096 bytes, also within a secret, which nobody would find in two parts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.runtime.protocol import StepSpec

_LONGEST = 64 * 1024
_NODE = rb"(?P<node>\[node \d+\] )?"
"""What stands before each line where it comes from the log of one pod of many."""
_TAGS = {
    "mpi": (
        _NODE + rb"\[(?:[\w.-]+@)?\d+,(?P<rank>\d+)\]<std(?:out|err|diag)>:",
        rb"\[[\w.@-]*(?:,\d*(?:\](?:<[a-z]*>?)?)?)?",
    ),
    "torchrun": (_NODE + rb"\[default(?P<rank>\d+)\]:", rb"\[[a-z]*\d*\]?"),
}
"""What tags of a kind of distribution look like, and the beginning of one."""
_LONGEST_TAG = 300


class Untagged:
    """A stream that comes from one process: it is passed on as it is."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be shown by now."""
        return chunk

    def rest(self) -> bytes:
        """Return what was held back, at the end of the stream."""
        return b""


class Tagged(Untagged):
    """A stream of pieces with tags, as ``mpirun`` writes them or ``torchrun --tee``; becomes lines that begin with ``[3]``.

    What comes from the starter itself has no tag, and gets none.
    """

    def __init__(self, kind: str) -> None:
        self._tag, self._begun_tag = map(re.compile, _TAGS[kind])
        self._held = b""
        self._rank = b""
        self._lines: dict[bytes, bytes] = {}

    def feed(self, chunk: bytes) -> bytes:
        """Return the lines that are complete by now."""
        text, shown = self._held + chunk, []
        keep = self._possible_tag(text)
        text, self._held = text[:keep], text[keep:]
        begin = 0
        for found in self._tag.finditer(text):
            shown.append(self._take(text[begin : found.start()]))
            self._rank, begin = (found["node"] or b"") + b"[%s] " % found["rank"], found.end()
        shown.append(self._take(text[begin:]))
        return b"".join(shown)

    def rest(self) -> bytes:
        """Return the lines that have no end."""
        last = self._take(self._held)
        self._held = b""
        begun, self._lines = self._lines, {}
        return last + b"".join(rank + line + b"\n" for rank, line in begun.items() if line)

    def _possible_tag(self, text: bytes) -> int:
        """Return where a tag begins that has not ended; the end of the text if there is no such place."""
        place = text.rfind(b"[", max(0, len(text) - _LONGEST_TAG))
        return place if place >= 0 and self._begun_tag.fullmatch(text, place) else len(text)

    def _take(self, piece: bytes) -> bytes:
        """Add a piece of the rank whose turn it is; a line of ``mpirun`` follows where a piece has ended in a line."""
        shown = []
        while piece:
            line, ended, piece = piece.partition(b"\n")
            whole = self._lines.pop(self._rank, b"") + line
            if ended or len(whole) > _LONGEST:
                shown.append(self._rank + whole + b"\n")
            else:
                self._lines[self._rank] = whole
            if ended:
                self._rank = b""
        return b"".join(shown)


def untangled(spec: StepSpec) -> Untagged:
    """Return what puts the output of a step together again."""
    kind = None if spec.distribution is None else spec.distribution.kind
    return Tagged(kind) if kind in _TAGS else Untagged()
