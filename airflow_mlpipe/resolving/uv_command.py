"""uv, the installer that comes with this package, run as a command."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING

import uv

from airflow_mlpipe.exceptions import EnvironmentBuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

_CREDENTIALS = re.compile(r"://[^/\s@]+@")
_LAST_LINES = 15
_MISLEADING = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON")
"""Variables that make uv look at another environment than the one it is given."""


def run_uv(arguments: Sequence[str], what: str, given: str = "", held: Sequence[int] = ()) -> str:
    """Run uv and return its standard output.

    It runs in an empty folder, so that no project's settings decide; those of the user and the machine do.

    :param what: what it shall do, for the error.
    :param given: its standard input.
    :param held: file descriptors it keeps open until it ends.
    :raises EnvironmentBuildError: if it fails, with its own last lines.
    """
    try:
        command = [uv.find_uv_bin(), *arguments]
        with tempfile.TemporaryDirectory(prefix="mlpipe-") as folder:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
                cwd=folder,
                pass_fds=held,
                check=False,
            )
    except OSError as error:
        message = f"cannot {what}: uv cannot be started ({error}): install it again with `pip install uv`"
        raise EnvironmentBuildError(message) from error
    if done.returncode != 0:
        message = f"cannot {what}; uv says:\n{_last_lines(done.stderr) or f'  (exit code {done.returncode})'}"
        raise EnvironmentBuildError(message)
    return done.stdout


def without_credentials(text: str) -> str:
    """Return a text with the user and password of every URL in it hidden."""
    return _CREDENTIALS.sub("://***@", text)


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    return {**inherited, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _last_lines(text: str) -> str:
    lines = [line for line in without_credentials(text).splitlines() if line.strip()]
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])
