"""Step directories filled by hand, and what to ask about processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.runtime import recorder, run
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, Reference, StepResult, StepSpec, load_result, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

PYTHON = (Reference("interpreter"),)


def spec_of(*command: str, **fields) -> StepSpec:
    """Return a spec; without a command it runs the script `main.py`."""
    argv = tuple((part,) for part in command) or (PYTHON, ("main.py",))
    return StepSpec(**{"pipeline": "p", "step": "s", "kind": "command", "command": argv, **fields})


def fill(root: Path, spec: StepSpec, script: str = "", **files: str) -> StepDirectory:
    """Fill a step directory as staging does, with `main.py` and other files as its code."""
    directory = StepDirectory(root.resolve())
    for folder in (directory.code, directory.inputs, directory.outputs, directory.home, directory.temporary):
        folder.mkdir(parents=True)
    directory.python.mkdir()
    (directory.python / "mlpipe.py").write_bytes(Path(run.__file__).read_bytes())
    if spec.environment.observe:
        (directory.python / "sitecustomize.py").write_bytes(Path(recorder.__file__).read_bytes())
    for name, content in {"main": script, **files}.items():
        (directory.code / f"{name}.py").write_text(content)
    directory.spec.write_bytes(to_json(spec))
    return directory


def supervised(directory: StepDirectory, **options) -> tuple[StepResult, bytes]:
    """Run a filled step directory under a supervisor of its own; return its result and all it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "airflow_mlpipe.runtime", str(directory.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
        **options,
    )
    assert directory.result.exists(), ended.stdout.decode()
    return load_result(json.loads(directory.result.read_bytes())), ended.stdout


def run_script(root: Path, script: str, **fields) -> tuple[StepResult, bytes]:
    """Run one script as a step."""
    return supervised(fill(root, spec_of(**fields), script))


OBSERVING = EnvironmentSpec(observe=True)


def alive(process: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def eventually(claim: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pids(path: Path, count: int) -> list[int]:
    """Wait for the process ids that a script writes to a file, one a line."""
    assert eventually(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return [int(line) for line in path.read_text().split()]


def pids_in(directory: Path) -> list[int]:
    """Return the processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                cwd = str((entry / "cwd").readlink())
            except OSError:
                continue
            if cwd.startswith(str(directory)):
                found.append(int(entry.name))
    return found
