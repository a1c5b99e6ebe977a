"""The demo: one pipeline, four runs, and what each of them had to do.

It works on a copy in `.mlpipe/demo`, begins anew each time, and fails if a step ends otherwise than said here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from land import land

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "pipelines"
WORK = HERE.parent.parent / ".mlpipe" / "demo"
PIPELINES = WORK / "pipelines"
LANDING = PIPELINES / "data" / "landing" / "digits"
SCRIPT = PIPELINES / "src" / "train" / "train.py"

STEPS = ("transfer", "clean", "features", "train", "evaluate", "register")
ALL_RAN = dict.fromkeys(STEPS, "ran")
ALL_REUSED = dict.fromkeys(STEPS, "reused")


class NotAsSaidError(Exception):
    """A run did something else than the demo says."""


def main() -> None:
    """Run the pipeline four times, each after another change."""
    started = time.monotonic()
    if WORK.exists():
        shutil.rmtree(WORK)
    shutil.copytree(EXAMPLES, PIPELINES, ignore=shutil.ignore_patterns("data", ".mlpipe", "__pycache__"))

    land(LANDING, 3)
    say("1. Three months of handwritten digits have landed. The first run has everything to do.")
    run(ALL_RAN)

    say("2. Nothing has changed. The same command again has nothing to do.")
    run(ALL_REUSED)

    edit("ITERATIONS = 20", "ITERATIONS = 500")
    say(
        "3. The training stopped too early: src/train/train.py now allows 500 iterations. Only train and what follows runs."
    )
    run({**ALL_REUSED, "train": "ran", "evaluate": "ran", "register": "ran"}, "train.py")

    land(LANDING, 4)
    say("4. A fourth month has landed. What depends on the data runs, and here that is every step.")
    run(ALL_RAN, "digits-2025-04.csv")

    place = PIPELINES.relative_to(Path.cwd()) if PIPELINES.is_relative_to(Path.cwd()) else PIPELINES
    say(f"All four runs did just that, in {time.monotonic() - started:.0f} s. The copy they worked on is {place}.")


def run(expected: dict[str, str], why: str = "") -> None:
    """Run the pipeline, show its table, and compare it with what was said.

    :raises NotAsSaidError: if a step had another outcome, or no reason names what was changed.
    """
    # Neither another workspace nor another store: this is the same demo for everybody.
    own = {name: text for name, text in os.environ.items() if not name.startswith(("MLPIPE_", "AIRFLOW"))}
    cache = {name: os.environ[name] for name in ["MLPIPE_CACHE"] if name in os.environ}
    mlpipe = Path(sys.executable).with_name("mlpipe")
    command = [str(mlpipe), "run", "digits.yaml"]
    done = subprocess.run(command, cwd=PIPELINES, env=own | cache, stdout=subprocess.PIPE, text=True, check=False)
    say(done.stdout.rstrip())

    rows = [line.split() for line in done.stdout.splitlines()]
    outcomes = {row[0]: row[1] for row in rows if len(row) > 1 and row[0] in STEPS}
    if done.returncode or outcomes != expected or why not in done.stdout:
        reason = f" because of {why}" if why else ""
        message = f"exit code {done.returncode}, outcomes {outcomes}; the demo promises {expected}{reason}"
        raise NotAsSaidError(message)


def edit(old: str, new: str) -> None:
    """Edit the training script, as you would."""
    text = SCRIPT.read_text("utf-8")
    if old not in text:
        message = f"{SCRIPT} has no line {old!r} to edit"
        raise NotAsSaidError(message)
    SCRIPT.write_text(text.replace(old, new), "utf-8")


def say(text: str) -> None:
    """Print a text and an empty line."""
    print(text, end="\n\n", flush=True)  # noqa: T201 -- a command for people


if __name__ == "__main__":
    try:
        main()
    except NotAsSaidError as error:
        sys.exit(f"The demo did not do what it says: {error}")
