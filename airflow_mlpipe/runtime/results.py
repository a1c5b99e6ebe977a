"""The result of a step beside its outputs: written last, so that whoever finds it may record what was made.

A worker may die between the two: its retry, or a waiter that takes over, then commits what it finds here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.runtime.protocol import load_result, to_json
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from airflow_mlpipe.runtime.protocol import StepResult
    from airflow_mlpipe.store.store import Store


def write_result(store: Store, fingerprint: str, claim: str, result: StepResult) -> None:
    """Write the result of a step whose outputs are published; not what it printed, which no record holds either."""
    store.write(layout.result(fingerprint, claim), to_json(replace(result, tail=())))


def read_result(store: Store, fingerprint: str, claim: str) -> StepResult | None:
    """Return the result of what was published under a claim; None where there is none that can be read."""
    try:
        data = json.loads(store.read(layout.result(fingerprint, claim)))
        return load_result(data) if isinstance(data, dict) else None
    except (FileNotFoundError, RecordFormatError, ValueError):
        return None
