"""Learns from a table of counts how likely each group of people was to survive: naive Bayes."""

import argparse
import csv
import math
from collections import Counter
from pathlib import Path

from mlpipe import Run

GROUP = ("Class", "Sex", "Age")
ANSWERS = ("Yes", "No")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--input_data", type=Path)
    parser.add_argument("--output_train", type=Path)
    args = parser.parse_args()

    with args.input_data.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter()
    for row in rows:
        counts[row["Survived"]] += int(row["Freq"])
        for name in GROUP:
            counts[row["Survived"], name, row[name]] += int(row["Freq"])

    groups = sorted({tuple(row[name] for name in GROUP) for row in rows})
    chances = {group: chance(group, counts) for group in groups}
    right = sum(
        int(row["Freq"])
        for row in rows
        if (chances[tuple(row[name] for name in GROUP)] > 0.5) == (row["Survived"] == "Yes")
    )
    total = sum(counts[answer] for answer in ANSWERS)
    run = Run.get_context()
    run.log("people", total)
    run.log("training_accuracy", right / total)
    print(f"learned from {total} people; right about {right} of them")

    if args.output_train is not None:
        args.output_train.mkdir(exist_ok=True)
        with (args.output_train / "chances.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*GROUP, "Chance"])
            writer.writerows([*group, f"{chances[group]:.4f}"] for group in groups)


def chance(group, counts):
    """Return how likely a group is to survive, as if what counts about it counted independently."""
    likely = {
        answer: counts[answer]
        * math.prod(counts[answer, name, value] / counts[answer] for name, value in zip(GROUP, group))
        for answer in ANSWERS
    }
    return likely["Yes"] / (likely["Yes"] + likely["No"])


if __name__ == "__main__":
    main()
