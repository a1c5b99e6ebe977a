"""Sensors for any DAG: waiting for what steps leave.

A name is imported when it is first used, as in `airflow_mlpipe.operators`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlpipe.sensors.step_output import StepOutputSensor

__all__ = ["StepOutputSensor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.step_output"), name)
