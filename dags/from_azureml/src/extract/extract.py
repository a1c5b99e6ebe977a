"""Extracts the passengers: the rows of a table, or of each table in a folder, that are not about the crew."""

import argparse
import csv
from pathlib import Path

from mlpipe import Run


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--input_extract", type=Path)
    parser.add_argument("--output_extract", type=Path)
    args = parser.parse_args()

    tables = sorted(args.input_extract.glob("*.csv")) if args.input_extract.is_dir() else [args.input_extract]
    kept = 0
    for table in tables:
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["Class"] != "Crew"]
        kept += len(rows)
        if args.output_extract is not None:
            args.output_extract.mkdir(exist_ok=True)
            with (args.output_extract / table.name).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    Run.get_context().log("rows", kept)
    print(f"kept {kept} rows")


if __name__ == "__main__":
    main()
