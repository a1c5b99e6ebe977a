"""The command line: ``mlpipe``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the command that the arguments of this process name, and exit with its code."""
    signal.signal(signal.SIGTERM, _interrupt)
    from airflow_mlpipe.cli.app import app  # noqa: PLC0415 -- who imports a part of this package needs no commands

    app(prog_name="mlpipe")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C, so that everything that was started ends too."""
    raise KeyboardInterrupt
