"""Lands the handwritten digits that scikit-learn ships as one CSV file a month, as a supplier would.

    python land.py FOLDER [MONTHS]

lands the first MONTHS months (all twelve if not given). A month that is there already stays as it is.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sklearn.datasets import load_digits

if TYPE_CHECKING:
    from collections.abc import Iterator

MONTHS = 12
HEADER = ["label", *(f"p{number}" for number in range(64))]


def land(folder: Path, months: int = MONTHS) -> list[Path]:
    """Write the months that are missing among the first so many; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"digits-2025-{month:02}.csv" for month in range(1, months + 1)]
    missing = [file for file in files if not file.exists()]
    for file in missing:
        _write(file, list(_month(files.index(file))))
    return missing


def _month(index: int) -> Iterator[list[int | str]]:
    """Yield the rows of a month, with the dirt that real deliveries have: a damaged row, and one sent twice."""
    pixels, labels = load_digits(return_X_y=True)
    rows = range(len(labels) * index // MONTHS, len(labels) * (index + 1) // MONTHS)
    delivered: list[list[int | str]] = [[int(labels[row]), *map(int, pixels[row])] for row in rows]
    damaged = ["", *delivered[0][1:]]
    yield from [*delivered, damaged, delivered[-1]]


def _write(file: Path, rows: list[list[int | str]]) -> None:
    """Write a file whole or not at all, since a pipeline may look at the folder at any moment."""
    part = file.parent.with_name(f".{file.name}.part")
    with part.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([HEADER, *rows])
    part.replace(file)


if __name__ == "__main__":
    for landed in land(Path(sys.argv[1]), *map(int, sys.argv[2:])):
        print(f"landed {landed}")  # noqa: T201 -- a command for people
