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
        """Return what can be shown by now."""
        if not self._secrets:
            return chunk
        text = self._hide(self._held + chunk)
        held = self._possible_start(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> bytes:
        """Return what was held back as the possible start of a secret, at the end of the stream."""
        held, self._held = self._held, b""
        return held

    def _hide(self, text: bytes) -> bytes:
        for secret in self._secrets:
            text = text.replace(secret, b"***")
        return text

    def _possible_start(self, text: bytes) -> int:
        """Return the length of the longest end of a text with which a secret begins."""
        for length in range(min(len(self._secrets[0]) - 1, len(text)), 0, -1):
            end = text[-length:]
            if any(len(secret) > length and secret.startswith(end) for secret in self._secrets):
                return length
        return 0


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
