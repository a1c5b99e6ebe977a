"""Compares what was foretold with what happened; without anything foretold, with the guess that nobody survives."""

import argparse
import csv
import json
from pathlib import Path

from mlpipe import Run

GROUP = ("Class", "Sex", "Age")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compare_data1", type=Path)
    parser.add_argument("--compare_data2", type=Path)
    parser.add_argument("--output_compare", type=Path)
    args = parser.parse_args()

    happened = read(args.compare_data1)
    chances = None
    if args.compare_data2 is not None:
        chances = {group(row): float(row["Chance"]) for row in read(args.compare_data2 / "chances.csv")}
        happened = [row for row in happened if group(row) in chances]
    people = right = 0
    for row in happened:
        foretold = chances is not None and chances[group(row)] > 0.5
        people += int(row["Freq"])
        right += int(row["Freq"]) if foretold == (row["Survived"] == "Yes") else 0

    run = Run.get_context()
    run.log("people", people)
    run.log("accuracy", right / people)
    print(f"right about {right} of {people} people")
    if args.output_compare is not None:
        args.output_compare.mkdir(exist_ok=True)
        (args.output_compare / "comparison.json").write_text(json.dumps({"people": people, "right": right}) + "\n")


def read(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def group(row):
    return tuple(row[name] for name in GROUP)


if __name__ == "__main__":
    main()
