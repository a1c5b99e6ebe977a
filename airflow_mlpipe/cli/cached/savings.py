"""Savings: what reuse has saved."""

from __future__ import annotations

import sys
from datetime import date
from typing import TYPE_CHECKING

from airflow_mlpipe.cli.table import Column, duration, plural, write_table
from airflow_mlpipe.exceptions import MlpipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlpipe.resolving.savings import Saved


def read_day(text: str) -> str:
    """Return a day as the journal names it.

    :raises MlpipeError: if it is none.
    """
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        message = f"--since must be a day such as 2025-01-31, given: {text!r}"
        raise MlpipeError(message) from None


def write_savings(lines: Sequence[Saved], by: str) -> None:
    """Write what was saved."""
    columns = [
        Column(by, wraps=True),
        Column("reused", right=True),
        Column("ran", right=True),
        Column("saved", right=True),
    ]
    write_table(columns, [[line.name, str(line.reused), str(line.ran), duration(line.seconds)] for line in lines])
    reused, seconds = sum(line.reused for line in lines), sum(line.seconds for line in lines)
    sys.stdout.write(f"\n{plural(reused, 'step')} reused; that saved {duration(seconds)}\n")
