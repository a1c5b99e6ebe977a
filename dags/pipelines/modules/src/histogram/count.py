"""Counts how many values fall into each of so many bins of equal width."""

import csv
import sys
from pathlib import Path

table, counts, bins = sys.argv[1:]
with open(table, newline="") as file:
    values = [float(row[1]) for row in csv.reader(file)]
least, width = min(values), (max(values) - min(values)) / int(bins) or 1
filled = [0] * int(bins)
for value in values:
    filled[min(int((value - least) / width), int(bins) - 1)] += 1
Path(counts).write_text("".join(f"{least + number * width:.1f} {count}\n" for number, count in enumerate(filled)))
