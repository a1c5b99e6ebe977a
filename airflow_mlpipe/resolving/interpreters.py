"""Which Python an environment uses, and what it is."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from airflow_mlpipe.exceptions import EnvironmentBuildError


@dataclass(frozen=True)
class Interpreter:
    """A Python: its version in full, the system and machine it runs on, and which build in which place it is."""

    version: str
    system: str
    machine: str
    build: str

    @property
    def minor(self) -> str:
        """The version without the last part, such as 3.11."""
        return ".".join(self.version.split(".")[:2])

    @property
    def platform(self) -> str:
        """The system and machine, such as linux-x86_64."""
        return f"{self.system}-{self.machine}".lower()


_PROGRAM = """\
import json, os, platform, sys
print(json.dumps({"version": platform.python_version(), "system": platform.system(), "machine": platform.machine(),
                  "build": os.path.realpath(sys.executable) + " " + sys.version}))
"""

_asked: dict[tuple[str, int], Interpreter] = {}


def identify(interpreter: str) -> Interpreter:
    """Return what an interpreter is; each is asked once, and again when its file changed.

    :raises EnvironmentBuildError: if it does not run.
    """
    if interpreter == sys.executable:
        return _own()
    try:
        key = (interpreter, Path(interpreter).stat().st_mtime_ns)
        if key not in _asked:
            _asked[key] = _ask(interpreter)
        return _asked[key]
    except (OSError, ValueError, TypeError, subprocess.SubprocessError) as error:
        message = f"the interpreter {interpreter!r} cannot be used: {error}: give the path of a Python 3"
        raise EnvironmentBuildError(message) from error


def locate(name: str | None) -> str:
    """Return the path of an interpreter, given a path, a name on the PATH, or a version such as 3.12.

    None stands for the Python that runs this.

    :raises EnvironmentBuildError: if there is none of that name.
    """
    if name is None:
        return sys.executable
    if "/" in name:
        return name
    found = shutil.which(name) or shutil.which(f"python{name}")
    if found is None:
        message = f"there is no interpreter {name!r} on the PATH: install it, or give its path as python"
        raise EnvironmentBuildError(message)
    return found


def _own() -> Interpreter:
    build = f"{os.path.realpath(sys.executable)} {sys.version}"
    return Interpreter(platform.python_version(), platform.system(), platform.machine(), build)


def _ask(interpreter: str) -> Interpreter:
    command = [interpreter, "-I", "-S", "-c", _PROGRAM]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return Interpreter(**json.loads(answer.stdout))
