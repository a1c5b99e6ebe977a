"""Sums up orders by customer: lines of customer,total."""

import argparse
import csv
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--orders", type=Path)
parser.add_argument("--totals", type=Path)
args = parser.parse_args()

totals = defaultdict(Decimal)
with args.orders.open(newline="") as file:
    for order in csv.DictReader(file):
        totals[order["customer"]] += Decimal(order["amount"])
with args.totals.open("w", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(sorted(totals.items()))
Run.get_context().log("customers", len(totals))
