"""`MpiOperator`: a script or a command line as many processes that speak MPI, as a task of any DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import MpiStep
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.written import WrittenOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow_mlpipe.definitions import Environment, PipelineData


class MpiOperator(WrittenOperator):
    """Run a script or a command line by ``mpirun``, or take its outputs from an earlier run.

    :param script_name: the Python script that each process runs, relative to ``source_directory``.
    :param command: what each process runs in place of a script: a text for ``sh -c``, or a list of arguments.
    :param node_count: the number of machines, or ``${{ parameters.x }}``; more than 1 needs a Kubernetes target.
    :param process_count_per_node: the number of processes on each, or ``${{ parameters.x }}``.
    :param options: arguments for ``mpirun``, as they are.
    :param hostfile: a file with hosts and slots for ``mpirun``, relative to ``source_directory``.
    :param outputs_of: whose outputs count: ``first`` for those of rank 0, ``each`` for a folder a rank.

    The other parameters are as in `PythonScriptOperator`.
    """

    step_class = MpiStep
    rendered = ("arguments", "command", "inputs", "outputs", "parameters", "environment")
    template_fields: Sequence[str] = (*StepOperator.template_fields, "arguments", "parameters", "environment")

    def __init__(  # noqa: PLR0913 -- an operator's fields are its arguments
        self,
        *,
        task_id: str,
        script_name: str | None = None,
        arguments: Sequence[Any] = (),
        command: str | Sequence[Any] | None = None,
        source_directory: str | Path | None = None,
        node_count: int | str = 1,
        process_count_per_node: int | str = 1,
        options: Sequence[str] = (),
        hostfile: str | None = None,
        outputs_of: str = "first",
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | Sequence[str | PipelineData] = (),
        parameters: Mapping[str, Any] | None = None,
        compute: str | None = None,
        environment: str | Mapping[str, Any] | Environment | None = None,
        allow_reuse: bool = True,
        **kwargs: Any,
    ) -> None:
        fields = {
            "script_name": script_name,
            "arguments": arguments,
            "command": command,
            "source_directory": source_directory,
            "node_count": node_count,
            "process_count_per_node": process_count_per_node,
            "options": options,
            "hostfile": hostfile,
            "outputs_of": outputs_of,
            "inputs": inputs or {},
            "outputs": outputs,
            "parameters": parameters or {},
            "compute": compute,
            "environment": environment,
            "allow_reuse": allow_reuse,
        }
        super().__init__(task_id=task_id, fields=fields, **kwargs)
