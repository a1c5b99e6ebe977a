"""What a detached launcher begins: it waits for the file ``go`` of a folder, and publishes what it makes.

A program of its own, which imports nothing of Airflow: ``detached_work.py <store> <fingerprint> <claim> <folder>``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.runtime.results import write_result
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.store import Store


def work(url: str, fingerprint: str, claim: str, folder: Path) -> None:
    """Make the output and publish it, then the result; then say that all is done."""
    (folder / f"{claim}.pid").write_text(str(os.getpid()))
    with (folder / "ran").open("a") as ran:
        ran.write(f"{os.getpid()}\n")
    while not (folder / "go").exists():
        time.sleep(0.1)
    source = folder / f"{claim}.out"
    source.write_text("made\n")
    store = Store.open(url)
    content = publish(store, fingerprint, claim, "out", source)
    outputs = {"out": OutputRef(layout.output(fingerprint, claim, "out"), content)}
    write_result(store, fingerprint, claim, StepResult(exit_code=0, seconds=1.0, outputs=outputs))
    (folder / f"{claim}.done").touch()


if __name__ == "__main__":
    work(*sys.argv[1:4], Path(sys.argv[4]))
