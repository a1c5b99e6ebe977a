"""Tables and sizes as text: plain when piped, with a little colour on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPED_WIDTH = 80

_GAP = 2
_NARROWEST = 16
_MINUTE = 60
_HOUR = 3600
_STEP = 1000

_COLOURS = {
    "reused": "32",
    "reuse": "32",
    "ran": "36",
    "run": "36",
    "waited": "36",
    "failed": "31",
    "not_run": "33",
    "depends": "33",
}


@dataclass(frozen=True)
class Column:
    """A column of a table: its title, whether it may be wrapped, whether it is a number, whether its words are coloured."""

    title: str
    wraps: bool = False
    right: bool = False
    coloured: bool = False


def width_of(stream: TextIO) -> int:
    """Return how many characters a line of a stream has."""
    return shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if stream.isatty() else PIPED_WIDTH


def has_colour(stream: TextIO) -> bool:
    """Say whether a stream is a terminal whose user wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, width: int = PIPED_WIDTH, colour: bool = False
) -> str:
    """Return a table as lines of text; columns that are empty throughout are left out.

    Columns that may be wrapped share what the others leave of the width.
    """
    content = list(rows)
    shown = [index for index in range(len(columns)) if any(row[index] for row in content)]
    columns = [columns[index] for index in shown]
    content = [[row[index] for index in shown] for row in content]
    widths = _widths(columns, content, width)
    lines = [_line(columns, [column.title for column in columns], widths, colour=False)]
    for row in content:
        cells = [
            textwrap.wrap(text, room, break_on_hyphens=False) or [""] for text, room in zip(row, widths, strict=True)
        ]
        for number in range(max(map(len, cells), default=0)):
            texts = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append(_line(columns, texts, widths, colour=colour))
    return "\n".join(lines)


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to standard output."""
    out = sys.stdout
    out.write(render(columns, rows, width=width_of(out), colour=has_colour(out)) + "\n")


def duration(seconds: float | None) -> str:
    """Return a time as people say it: ``0.4 s``, ``2 min 5 s``, ``1 h 3 min``."""
    if seconds is None:
        return ""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def size(count: float) -> str:
    """Return a number of bytes with its unit: ``12 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" or count >= _STEP / 10 else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TB"


def moment(time: str) -> str:
    """Return the local time of an ISO timestamp, without the date if that is today."""
    local = datetime.fromisoformat(time).astimezone()
    today = local.date() == datetime.now(timezone.utc).astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d")


def plural(count: int, word: str) -> str:
    """Return a number of things: ``1 file``, ``2 files``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    wanted = [
        max(len(column.title), *(len(row[index]) for row in rows)) if rows else len(column.title)
        for index, column in enumerate(columns)
    ]
    flexible = [index for index, column in enumerate(columns) if column.wraps]
    room = width - _GAP * (len(columns) - 1) - sum(wanted) + sum(wanted[index] for index in flexible)
    for left, index in zip(range(len(flexible), 0, -1), sorted(flexible, key=wanted.__getitem__), strict=True):
        wanted[index] = min(wanted[index], max(room // left, _NARROWEST))
        room -= wanted[index]
    return wanted


def _line(columns: Sequence[Column], texts: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    cells = []
    for column, text, room in zip(columns, texts, widths, strict=True):
        padded = text.rjust(room) if column.right else text.ljust(room)
        code = _COLOURS.get(text) if colour and column.coloured else None
        cells.append(f"\x1b[{code}m{padded}\x1b[0m" if code else padded)
    return (" " * _GAP).join(cells).rstrip()
