"""`EstimatorOperator`: trains a model with a framework, as a task of any DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import EstimatorStep
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.written import WrittenOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_mlpipe.definitions import Distribution, Environment, PipelineData


class EstimatorOperator(WrittenOperator):
    """Train a model by a Python script and the framework it needs, or take it from an earlier run.

    :param entry_script: the script, relative to ``source_directory``.
    :param framework: ``sklearn``, ``xgboost``, ``lightgbm``, ``pytorch``, ``tensorflow``, ``huggingface``, or one of the
        workspace's own.
    :param framework_version: its version; what is installed, or the newest, where it is not given.
    :param requirements: what else to install, as in a requirements file.
    :param distribution: how many processes run the script, and what starts them:
        ``{"kind": "torchrun", "processes_per_node": 2}``. Counts may be ``${{ parameters.x }}``.
    :param outputs: as in `PythonScriptOperator`; the output ``model`` where it is not given.

    The other parameters are as in `PythonScriptOperator`.
    """

    step_class = EstimatorStep
    rendered = ("arguments", "inputs", "outputs", "parameters", "environment")
    template_fields: Sequence[str] = (*StepOperator.template_fields, "arguments", "parameters", "environment")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        task_id: str,
        entry_script: str | None = None,
        source_directory: str | Path = ".",
        arguments: Sequence[Any] = (),
        framework: str | None = None,
        framework_version: str | None = None,
        requirements: Sequence[str] = (),
        distribution: Mapping[str, Any] | Distribution | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | Sequence[str | PipelineData] | None = None,
        parameters: Mapping[str, Any] | None = None,
        compute: str | None = None,
        environment: str | Mapping[str, Any] | Environment | None = None,
        code: str = "directory",
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        fields = {
            "entry_script": entry_script,
            "source_directory": source_directory,
            "arguments": arguments,
            "framework": framework,
            "framework_version": framework_version,
            "requirements": requirements,
            "distribution": distribution,
            "inputs": inputs or {},
            "outputs": outputs,
            "parameters": parameters or {},
            "compute": compute,
            "environment": environment,
            "code": code,
            "allow_reuse": allow_reuse,
        }
        super().__init__(task_id=task_id, fields=fields, **kwargs)
