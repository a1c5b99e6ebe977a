"""A real MLflow tracking server on loopback: ``MLPIPE_MLFLOW`` names its command, else the PATH, or this Python, has it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from airflow_mlpipe.airflow_home import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


def _command() -> str | None:
    beside = Path(sys.executable).with_name("mlflow")
    return os.environ.get("MLPIPE_MLFLOW") or shutil.which("mlflow") or (str(beside) if beside.exists() else None)


COMMAND = _command()
"""The command `mlflow`, or None; found out now, as tests take such variables away."""


def missing() -> str | None:
    """Return why there is no server to be had."""
    return None if COMMAND else "the command mlflow is not there: pip install mlflow, or name it in MLPIPE_MLFLOW"


def interpreter() -> str:
    """Return the Python that has MLflow."""
    return str(Path(str(COMMAND)).with_name("python"))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Serve from a database in a folder; give the address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--default-artifact-root",
        str(folder / "artifacts"),
    ]
    log = folder / "mlflow.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(COMMAND), "server", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    try:
        _wait(process, address, log)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 270
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", trust_env=False, timeout=2).is_success:
                return
        except httpx.HTTPError:  # noqa: PERF203 -- it is waited for
            time.sleep(0.2)
    message = f"the MLflow server did not come up:\n{log.read_text()[-2000:]}"
    raise AssertionError(message)
