"""Adds and multiplies two numbers, each given as it is or in a file."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--arg_num1", type=int)
parser.add_argument("--arg_num2", type=int)
parser.add_argument("--file_num1", type=Path)
parser.add_argument("--file_num2", type=Path)
parser.add_argument("--output_sum", type=Path)
parser.add_argument("--output_product", type=Path)
args = parser.parse_args()

first = args.arg_num1 if args.file_num1 is None else int(args.file_num1.read_text())
second = args.arg_num2 if args.file_num2 is None else int(args.file_num2.read_text())
args.output_sum.write_text(str(first + second))
args.output_product.write_text(str(first * second))
print(f"{first} and {second}: sum {first + second}, product {first * second}")
