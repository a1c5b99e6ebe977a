"""What a person reads when a step took too long: Airflow itself says no more than `Timeout, PID: 123`."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowTaskTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta


@contextmanager
def saying_how_long(step: str, limit: timedelta | None) -> Iterator[None]:
    """Let the end of a task that took too long say which step it was, and how long it had."""
    try:
        yield
    except AirflowTaskTimeout as error:
        if limit is None:
            raise
        message = (
            f"step {step} was stopped: it ran for longer than its timeout of {limit}; "
            "give it more time with `timeout` (execution_timeout of an operator), or let it do less"
        )
        raise AirflowTaskTimeout(message) from error
