"""Run the command of a step directory: ``python -m airflow_mlpipe.runtime <step directory> [--control <fd>]``.

Exit code: 0 if the step succeeded, else the command's own (128 and the number for a signal), else 1.
With ``--control`` a pipe delivers the secrets, as a JSON object and a line feed, and stays open while the launcher
lives; without it there are none.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.runtime.supervise import LAUNCHER_ENDED, supervise

_USAGE = 2


def main(arguments: list[str]) -> int:
    """Supervise the step of a directory and return the exit code."""
    match arguments:
        case [root]:
            control = None
        case [root, "--control", number] if number.isdigit():
            control = int(number)
        case _:
            print("usage: python -m airflow_mlpipe.runtime <step directory> [--control <fd>]", file=sys.stderr)  # noqa: T201 -- a program
            return _USAGE
    try:
        secrets = _secrets(control) if control is not None else {}
        result = supervise(Path(root), secrets, control)
    except (MlpipeError, OSError) as error:
        print(f"mlpipe: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if result.error == LAUNCHER_ENDED:  # nobody else is left to clear away
        import shutil  # noqa: PLC0415 -- rarely needed, and each start counts

        shutil.rmtree(root, ignore_errors=True)
    if result.error is None:
        return 0
    code = result.exit_code or 1
    return code if code > 0 else 128 - code


def _secrets(control: int) -> dict[str, str]:
    os.set_inheritable(control, False)
    received = b""
    while not received.endswith(b"\n"):
        chunk = os.read(control, 65536)
        if not chunk:
            sys.exit(1)  # the launcher ended before anything began
        received += chunk
    return dict(json.loads(received))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
