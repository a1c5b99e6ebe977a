"""`PythonScriptOperator` and `CommandOperator`: a script or a command line as a task of any DAG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import CommandStep, PythonScriptStep
from airflow_mlpipe.operators.inputs import kept_from_jinja, split_inputs
from airflow_mlpipe.operators.step import StepOperator

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlpipe.definitions import Environment, PipelineData


class PythonScriptOperator(StepOperator):
    """Run a Python script, or take its outputs from an earlier run.

    :param script_name: the script, relative to ``source_directory``.
    :param source_directory: what the script may import and read as code; relative to the DAG file's folder.
    :param arguments: the command line; may hold ``${{ inputs.x }}``, ``${{ outputs.x }}``, ``${{ parameters.x }}`` and
        ``${{ run.x }}``, and Airflow templates.
    :param inputs: by name, the output of another task (``other.output["x"]``), a URL, a path, or
        ``{"datastore": ..., "path": ...}``.
    :param outputs: the names of the outputs, or by name ``{"kind": ..., "destination": ..., "asset": ...}``.
    :param parameters: values by name, beside the DAG's own params; may hold Airflow templates.
    :param compute: the name of a compute target of the workspace.
    :param environment: the name of an environment of the workspace, or its definition.
    :param code: ``directory`` counts every file of the source directory, ``imports`` the modules the script imports.
    :param allow_reuse: whether an earlier run's outputs may be taken.
    """

    template_fields: Sequence[str] = (*StepOperator.template_fields, "arguments", "parameters")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        script_name: str,
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
        declared, upstream = split_inputs(inputs or {})
        step = PythonScriptStep(
            name=kwargs["task_id"],
            script_name=script_name,
            source_directory=str(source_directory),
            arguments=[str(argument) for argument in arguments],
            inputs=declared,
            outputs=named(outputs),
            parameters=dict(parameters or {}),
            compute=compute,
            environment=environment,
            code=code,
            allow_reuse=allow_reuse,
        )
        super().__init__(step=step, upstream=upstream, **kwargs)
        self.arguments = kept_from_jinja(step.arguments)
        self.parameters = kept_from_jinja(step.parameters)

    def _rendered(self) -> dict[str, Any]:
        return {"arguments": tuple(map(str, self.arguments)), "parameters": self.parameters}


class CommandOperator(StepOperator):
    """Run any command line, or take its outputs from an earlier run.

    :param command: a text for ``sh -c``, or a list of arguments; see `PythonScriptOperator` for what it may hold. In
        a text, expressions become quoted shell variables.

    The other parameters are as in `PythonScriptOperator`; without ``source_directory`` it starts in an empty folder.
    """

    template_fields: Sequence[str] = (*StepOperator.template_fields, "command_line", "parameters")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        command: str | Sequence[Any],
        source_directory: str | Path | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | Sequence[str | PipelineData] = (),
        parameters: Mapping[str, Any] | None = None,
        compute: str | None = None,
        environment: str | Mapping[str, Any] | Environment | None = None,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        declared, upstream = split_inputs(inputs or {})
        step = CommandStep(
            name=kwargs["task_id"],
            command=command if isinstance(command, str) else [str(part) for part in command],
            source_directory=str(source_directory) if source_directory else None,
            inputs=declared,
            outputs=named(outputs),
            parameters=dict(parameters or {}),
            compute=compute,
            environment=environment,
            allow_reuse=allow_reuse,
        )
        super().__init__(step=step, upstream=upstream, **kwargs)
        self.command_line = kept_from_jinja(step.command)
        self.parameters = kept_from_jinja(step.parameters)

    def _rendered(self) -> dict[str, Any]:
        command = self.command_line if isinstance(self.command_line, str) else tuple(map(str, self.command_line))
        return {"command": command, "parameters": self.parameters}


def named(outputs: Mapping[str, Any] | Sequence[str | PipelineData]) -> Mapping[str, Any] | list[Any]:
    """Return outputs as a step takes them: by name, or a list of names and objects."""
    if isinstance(outputs, Mapping):
        return outputs
    return list(outputs)
