import argparse
from pathlib import Path

from mlpipe import Run

parser = argparse.ArgumentParser()
parser.add_argument("--input")
parser.add_argument("--output")
args = parser.parse_args()
text = Path(args.input).read_text()
Run.get_context().log("rows", len(text.splitlines()))
Path(args.output).write_text(text.upper())
