"""The README as what it consists of: sections, blocks of code, tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"

_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+)`[^`\n]*:\n\n\Z")


@dataclass(frozen=True)
class Block:
    """Code in a fence. ``file`` is the path that the text just before gives it: "`a/b.py`:"."""

    section: str
    language: str
    text: str
    file: str | None


def without_code(text: str) -> str:
    """Return a text with everything in fences blanked, so that a comment in it is not taken for a heading."""
    return _BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)


def section(title: str) -> str:
    """Return what stands under a heading, up to the next heading of any level."""
    text = README.read_text("utf-8")
    headings = list(_HEADING.finditer(without_code(text)))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    (found,) = [text[heading.end() : end] for heading, end in zip(headings, ends, strict=True) if heading[2] == title]
    return found


def titles() -> list[str]:
    """Return all headings, in order."""
    return [heading[2] for heading in _HEADING.finditer(without_code(README.read_text("utf-8")))]


def blocks(title: str | None = None, language: str | None = None) -> list[Block]:
    """Return the blocks of code, of one section or one language or all."""
    found = []
    for name in titles() if title is None else [title]:
        text = section(name)
        for block in _BLOCK.finditer(text):
            file = _FILE.search(text[: block.start()])
            found.append(Block(name, block[1], block[2], file[1] if file else None))
    return [block for block in found if language in (None, block.language)]


def files(*sections: str) -> dict[str, str]:
    """Return the files that some sections show: path -> text."""
    return {block.file: block.text for title in sections for block in blocks(title) if block.file}


def tables(title: str) -> list[list[list[str]]]:
    """Return the tables of a section as rows of cells, without their heads."""
    lines = without_code(section(title)).splitlines()
    found = [list(group) for is_table, group in groupby(lines, lambda line: line.startswith("|")) if is_table]
    return [[_cells(line) for line in table[2:]] for table in found]


def spans(cell: str) -> list[str]:
    """Return what is set as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
