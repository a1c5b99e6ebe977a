"""Operators for any DAG: steps, transfers, and the plan of a whole pipeline.

A name is imported when it is first used, since Airflow loads the plugin, and with it this package, in every process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlpipe.operators.data_transfer import DataTransferOperator
    from airflow_mlpipe.operators.estimator import EstimatorOperator
    from airflow_mlpipe.operators.mpi import MpiOperator
    from airflow_mlpipe.operators.plan import PlanOperator
    from airflow_mlpipe.operators.script import CommandOperator, PythonScriptOperator
    from airflow_mlpipe.operators.step import StepOperator

_MODULES = {
    "CommandOperator": "script",
    "DataTransferOperator": "data_transfer",
    "EstimatorOperator": "estimator",
    "MpiOperator": "mpi",
    "PlanOperator": "plan",
    "PythonScriptOperator": "script",
    "StepOperator": "step",
}

__all__ = [
    "CommandOperator",
    "DataTransferOperator",
    "EstimatorOperator",
    "MpiOperator",
    "PlanOperator",
    "PythonScriptOperator",
    "StepOperator",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
