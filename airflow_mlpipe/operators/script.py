"""`PythonScriptOperator` and `CommandOperator`: a script or a command line as a task of any DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import CommandStep, PythonScriptStep
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.written import WrittenOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_mlpipe.definitions import Environment, PipelineData


class PythonScriptOperator(WrittenOperator):
    """Run a Python script, or take its outputs from an earlier run.

    :param script_name: the script, relative to ``source_directory``.
    :param source_directory: what the script may import and read as code; relative to the DAG file's folder.
    :param arguments: the command line; may hold ``${{ inputs.x }}``, ``${{ outputs.x }}``, ``${{ parameters.x }}`` and
        ``${{ run.x }}``.
    :param inputs: by name, the output of another task (``other.output["x"]``), a URL, a path, or
        ``{"datastore": ..., "path": ...}``.
    :param outputs: the names of the outputs, or by name ``{"kind": ..., "destination": ..., "asset": ...}``.
    :param parameters: values by name, beside the DAG's own params.
    :param compute: the name of a compute target of the workspace.
    :param environment: the name of an environment of the workspace, or its definition.
    :param code: ``directory`` counts every file of the source directory, ``imports`` the modules the script imports.
    :param allow_reuse: whether an earlier run's outputs may be taken.

    Arguments, inputs, outputs, parameters and environment may hold Airflow templates, and what other tasks returned.
    """

    step_class = PythonScriptStep
    rendered = ("arguments", "inputs", "outputs", "parameters", "environment")
    template_fields: Sequence[str] = (*StepOperator.template_fields, "arguments", "parameters", "environment")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        task_id: str,
        script_name: str | None = None,
        source_directory: str | Path = ".",
        arguments: Sequence[Any] = (),
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | Sequence[str | PipelineData] = (),
        parameters: Mapping[str, Any] | None = None,
        compute: str | None = None,
        environment: str | Mapping[str, Any] | Environment | None = None,
        code: str = "directory",
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        fields = {
            "script_name": script_name,
            "source_directory": source_directory,
            "arguments": arguments,
            "inputs": inputs or {},
            "outputs": outputs,
            "parameters": parameters or {},
            "compute": compute,
            "environment": environment,
            "code": code,
            "allow_reuse": allow_reuse,
        }
        super().__init__(task_id=task_id, fields=fields, **kwargs)


class CommandOperator(WrittenOperator):
    """Run any command line, or take its outputs from an earlier run.

    :param command: a text for ``sh -c``, or a list of arguments; see `PythonScriptOperator` for what it may hold. In
        a text, expressions become quoted shell variables.

    The other parameters are as in `PythonScriptOperator`; without ``source_directory`` it starts in an empty folder.
    """

    step_class = CommandStep
    rendered = ("command", "inputs", "outputs", "parameters", "environment")
    template_fields: Sequence[str] = (*StepOperator.template_fields, "parameters", "environment")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        task_id: str,
        command: str | Sequence[Any] | None = None,
        source_directory: str | Path | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | Sequence[str | PipelineData] = (),
        parameters: Mapping[str, Any] | None = None,
        compute: str | None = None,
        environment: str | Mapping[str, Any] | Environment | None = None,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        fields = {
            "command": command,
            "source_directory": source_directory,
            "inputs": inputs or {},
            "outputs": outputs,
            "parameters": parameters or {},
            "compute": compute,
            "environment": environment,
            "allow_reuse": allow_reuse,
        }
        super().__init__(task_id=task_id, fields=fields, **kwargs)
