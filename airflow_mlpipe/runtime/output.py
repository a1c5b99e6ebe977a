"""What a command prints, as bytes in any amount: hide secrets, keep the last lines, cut into lines for a log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TAIL_LINES = 40
TAIL_BYTES = 64 * 1024
LINE_CHARACTERS = 2_000
MAX_LINE_BYTES = 64 * 1024
SHORTEST_SECRET = 4
"""Shorter secrets are not hidden in the output, since ordinary words would be."""
SHORTEST_LINE = 8
"""The same for a single line of a secret that has several."""


class Mask:
    """Replaces secret values in a stream by ``***``, also where one arrives in pieces.

    A value is hidden as it is, line by line, and as Python, JSON and URLs write it.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {form.encode() for secret in secrets for form in _forms(secret)}
        self._secrets = sorted(values, key=len, reverse=True)
        self._begins = {value[:length] for value in values for length in range(1, SHORTEST_SECRET)}
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be shown by now; what may be the start of a secret is held back."""
        if not self._secrets:
            return chunk
        text, shown, begin = self._held + chunk, [], 0
        held = self._possible_start(text, begin)
        for start, end in self._found(text):
            if start >= held:
                break
            shown.append(text[begin:start])
            begin = end
            if begin > held:
                held = self._possible_start(text, begin)
        self._held = text[held:]
        return b"***".join([*shown, text[begin:held]])

    def rest(self) -> bytes:
        """Return what was held back, at the end of the stream."""
        text, self._held = self._held, b""
        return self._without(text)

    def hide(self, text: str) -> str:
        """Return a text of its own, without secrets."""
        return self._without(text.encode()).decode()

    def _without(self, text: bytes) -> bytes:
        shown, begin = [], 0
        for start, end in self._found(text):
            shown.append(text[begin:start])
            begin = end
        return b"***".join([*shown, text[begin:]])

    def _found(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Yield where secrets begin and end, one after the other, of several at one place the longest."""
        places = []
        for secret in self._secrets:
            start = text.find(secret)
            while start >= 0:
                places.append((start, -len(secret)))
                start = text.find(secret, start + 1)
        begin = 0
        for start, length in sorted(places):
            if start >= begin:
                begin = start - length
                yield start, begin

    def _possible_start(self, text: bytes, begin: int) -> int:
        """Return the first place from which the rest of a text may go on to become a secret, else its end."""
        first = len(text)
        for secret in self._secrets:
            start = max(begin, len(text) - len(secret) + 1)
            if start >= first:
                continue
            prefix, end = secret[:SHORTEST_SECRET], first + SHORTEST_SECRET - 1
            place = text.find(prefix, start, end)
            while place >= 0 and not secret.startswith(text[place:]):
                place = text.find(prefix, place + 1, end)
            if place >= 0:
                first = place
        last = range(max(begin, len(text) - SHORTEST_SECRET + 1), first)
        return next((place for place in last if text[place:] in self._begins), first)


def _forms(secret: str) -> Iterator[str]:
    """Yield what a secret may look like when it is printed."""
    from urllib.parse import quote, quote_plus  # noqa: PLC0415 -- most steps have no secrets, and each start counts

    if len(secret) < SHORTEST_SECRET:
        return
    lines = secret.splitlines()
    if len(lines) > 1:
        lines += [line.strip() for line in lines]
    for value in (secret, *(line for line in lines if len(line) >= SHORTEST_LINE)):
        yield value
        yield repr(value)[1:-1]
        yield json.dumps(value)[1:-1]
        yield json.dumps(value, ensure_ascii=False)[1:-1]
        yield quote(value, safe="")
        yield quote(value)
        yield quote_plus(value)


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
    """Cuts a stream into lines for a log; one that is longer than `MAX_LINE_BYTES` is cut there, however it came."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that are complete by now."""
        *complete, begun = (self._begun + chunk).split(b"\n")
        *cut, self._begun = _pieces(begun)
        for line in complete:
            yield from map(readable, _pieces(line))
        yield from map(readable, cut)

    def rest(self) -> Iterator[str]:
        """Yield the last line if it has no end."""
        begun, self._begun = self._begun, b""
        if begun:
            yield readable(begun)


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE_BYTES] for start in range(0, len(line) or 1, MAX_LINE_BYTES)]


def readable(line: bytes) -> str:
    """Return a line as a terminal would leave it: a progress bar shows its last state, odd bytes become U+FFFD."""
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown.decode("utf-8", "replace").replace("\0", "\ufffd")


def _cut(line: str) -> str:
    return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " ..."
