"""Reads every month, keeps the rows that can be right, and counts those that cannot."""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

from mlpipe import Run

PIXELS = [f"p{number}" for number in range(64)]
HEADER = ["label", *PIXELS]
DARKEST = 16


def problem(row, seen):
    """Say what is wrong with a row, or nothing."""
    if len(row) != len(HEADER) or not all(value.isdigit() for value in row):
        return "not all numbers"
    if int(row[0]) > 9:
        return "no digit"
    if max(map(int, row[1:])) > DARKEST:
        return "pixel out of range"
    if tuple(row) in seen:
        return "twice"
    return ""


def read(month):
    """Return the rows of one file; another header means that something else has landed."""
    with month.open(newline="") as file:
        header, *rows = csv.reader(file)
    if header != HEADER:
        raise SystemExit(f"{month.name} is no month of digits: its header begins with {header[:3]}")
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--clean", type=Path)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()

    months = sorted(args.raw.glob("*.csv"))
    if not months:
        raise SystemExit(f"no month has landed in {args.raw}")
    good, seen, dropped = [], set(), Counter()
    for month in months:
        for row in read(month):
            if wrong := problem(row, seen):
                dropped[wrong] += 1
            else:
                good.append(row)
                seen.add(tuple(row))

    with args.clean.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *good])
    report = {"months": len(months), "rows": len(good), "dropped": dict(sorted(dropped.items()))}
    args.report.write_text(json.dumps(report, indent=1) + "\n")
    Run.get_context().log("rows", len(good))
    print(report)


if __name__ == "__main__":
    main()
