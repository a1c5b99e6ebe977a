"""The demo: one pipeline, four runs, and what each of them had to do.

    python run.py [FOLDER]

It works on a copy in FOLDER, by default `.mlpipe/demo` in the project, which it empties first; it fails if a step ends
otherwise than said here.
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

STEPS = ("transfer", "clean", "features", "train", "evaluate", "register")
ALL_RAN = dict.fromkeys(STEPS, "ran")
ALL_REUSED = dict.fromkeys(STEPS, "reused")


class NotAsSaidError(Exception):
    """A run did something else than the demo says."""


def main(work: Path) -> None:
    """Run the pipeline four times, each after another change."""
    started = time.monotonic()
    pipelines = fresh_copy(work)
    landing = pipelines / "data" / "landing" / "digits"

    land(landing, 3)
    say("1. Three months of handwritten digits have landed. The first run has everything to do.")
    run(pipelines, ALL_RAN)

    say("2. Nothing has changed. The same command again has nothing to do.")
    run(pipelines, ALL_REUSED)

    say("3. Training stops too early: src/train/train.py now allows 500 iterations. Only train and what follows runs.")
    edit(pipelines / "src" / "train" / "train.py", "ITERATIONS = 20", "ITERATIONS = 500")
    run(pipelines, {**ALL_REUSED, "train": "ran", "evaluate": "ran", "register": "ran"}, "train.py")

    say("4. A fourth month has landed. What depends on the data runs, and here that is every step.")
    land(landing, 4)
    run(pipelines, ALL_RAN, "input data")

    say(f"All four runs did just that, in {time.monotonic() - started:.0f} s. The copy they worked on is {pipelines}.")


def fresh_copy(work: Path) -> Path:
    """Copy the pipelines without anything that runs have left; only our own folder is emptied for it."""
    if work == WORK and work.exists():
        shutil.rmtree(work)
    left = shutil.ignore_patterns("data", ".mlpipe", "__pycache__")
    return Path(shutil.copytree(EXAMPLES, work / "pipelines", ignore=left))


def run(pipelines: Path, expected: dict[str, str], why: str = "") -> None:
    """Run the pipeline, show its table, and compare it with what was said.

    :raises NotAsSaidError: if a step had another outcome, or no reason names what was changed.
    """
    # Neither another workspace nor another store: this is the same demo for everybody.
    theirs = ("AIRFLOW", "MLPIPE_HOME", "MLPIPE_STORE", "MLPIPE_WORKSPACE", "MLPIPE_COMPUTE")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(theirs)}
    command = [str(Path(sys.executable).with_name("mlpipe")), "run", "digits.yaml"]
    done = subprocess.run(command, cwd=pipelines, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    say(done.stdout.rstrip())

    rows = [line.split() for line in done.stdout.splitlines()]
    outcomes = {row[0]: row[1] for row in rows if len(row) > 1 and row[0] in STEPS}
    if done.returncode or outcomes != expected:
        message = f"exit code {done.returncode} and {outcomes}, where {expected} was promised"
        raise NotAsSaidError(message)
    if why not in done.stdout:
        message = f"the table does not say that steps ran because of {why}"
        raise NotAsSaidError(message)


def edit(script: Path, old: str, new: str) -> None:
    """Edit a script, as you would.

    :raises NotAsSaidError: if there is nothing to edit.
    """
    text = script.read_text("utf-8")
    if old not in text:
        message = f"{script} does not say {old!r}"
        raise NotAsSaidError(message)
    script.write_text(text.replace(old, new), "utf-8")


def say(text: str) -> None:
    """Print a text and an empty line."""
    print(text, end="\n\n", flush=True)  # noqa: T201 -- a command for people


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).resolve() if sys.argv[1:] else WORK)
    except NotAsSaidError as error:
        sys.exit(f"The demo did not do what it says: {error}")
