"""What a command prints, as bytes in any amount: hide secrets, keep the last lines, cut into lines for a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TAIL_LINES = 40
TAIL_BYTES = 64 * 1024
LINE_CHARACTERS = 2_000
MAX_LINE_BYTES = 64 * 1024
SHORTEST_SECRET = 4
"""Shorter secrets are not hidden in the output, since ordinary words would be."""


class Mask:
    """Replaces secret values in a stream by ``***``, also where one arrives in pieces."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value.encode() for value in secrets if len(value) >= SHORTEST_SECRET}
        self._secrets = sorted(values, key=len, reverse=True)
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be shown by now; what may be the start of a secret is held back."""
        if not self._secrets:
            return chunk
        text, shown, begin = self._held + chunk, b"", 0
        held = self._possible_start(text, begin)
        while (found := self._next(text, begin)) and found[0] < held:
            start, length = found
            shown += text[begin:start] + b"***"
            begin = start + length
            held = self._possible_start(text, begin)
        self._held = text[held:]
        return shown + text[begin:held]

    def rest(self) -> bytes:
        """Return what was held back, at the end of the stream."""
        text, self._held = self._held, b""
        for secret in self._secrets:
            text = text.replace(secret, b"***")
        return text

    def _next(self, text: bytes, begin: int) -> tuple[int, int] | None:
        """Return where the first secret is and how long, of several there the longest."""
        found = [(start, -len(secret)) for secret in self._secrets if (start := text.find(secret, begin)) >= 0]
        return (min(found)[0], -min(found)[1]) if found else None

    def _possible_start(self, text: bytes, begin: int) -> int:
        """Return the first place from which the rest of a text may go on to become a secret, else its end."""
        for place in range(max(begin, len(text) - len(self._secrets[0]) + 1), len(text)):
            rest = text[place:]
            if any(len(secret) > len(rest) and secret.startswith(rest) for secret in self._secrets):
                return place
        return len(text)


class Tail:
    """Keeps the last lines of a stream, whatever its length."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the stream."""
        self._bytes = (self._bytes + chunk)[-TAIL_BYTES:]

    def lines(self) -> tuple[str, ...]:
        """Return the last `TAIL_LINES` lines, each of at most `LINE_CHARACTERS` characters."""
        lines = [readable(line) for line in self._bytes.rstrip().split(b"\n")[-TAIL_LINES:]]
        return tuple(_cut(line) for line in lines) if self._bytes.strip() else ()


class Lines:
    """Cuts a stream into lines for a log; a line without an end is cut every `MAX_LINE_BYTES`."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that are complete by now."""
        *complete, self._begun = (self._begun + chunk).split(b"\n")
        for line in complete:
            yield readable(line)
        while len(self._begun) > MAX_LINE_BYTES:
            line, self._begun = self._begun[:MAX_LINE_BYTES], self._begun[MAX_LINE_BYTES:]
            yield readable(line)

    def rest(self) -> Iterator[str]:
        """Yield the last line if it has no end."""
        begun, self._begun = self._begun, b""
        if begun:
            yield readable(begun)


def readable(line: bytes) -> str:
    """Return a line as a terminal would leave it: a progress bar shows its last state, odd bytes become U+FFFD."""
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown.decode("utf-8", "replace").replace("\0", "\ufffd")


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " ..."
