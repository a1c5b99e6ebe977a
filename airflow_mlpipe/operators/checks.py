"""What can be said of a step when its DAG is parsed: names the workspace lacks, files that are not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import PythonScriptStep
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import DefinitionError, Problem
from airflow_mlpipe.operators.binding import standing_alone
from airflow_mlpipe.operators.here import workspace_at

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from airflow.sdk import DAG

    from airflow_mlpipe.definitions import Pipeline, Step, Workspace

WHOLE = "return_value"
"""The XCom key under which a task leaves all its outputs together; no output may have this name."""


def check_ports(step: Step) -> None:
    """Check that no output has a name that Airflow needs.

    :raises DefinitionError: if one has.
    """
    if WHOLE in step.outputs:
        where = f"{step.name}.outputs.{WHOLE}"
        raise DefinitionError([Problem("", 0, 0, where, "is the name of all outputs together", "Choose another name")])


def check_written(step: Step, dag: DAG, folder: Path, workspace: str | Path | None, params: Collection[str]) -> None:
    """Check a step of a hand-written DAG against its surroundings.

    Only while Airflow parses the DAG's own file: a DAG that a helper module makes gets its place afterwards.

    :param params: the names of the DAG's params.
    :raises DefinitionError: with everything that is wrong.
    """
    problems = list(_unknown_parameters(step, params))
    if folder.is_absolute() and _is_parsed(dag.fileloc):
        place = workspace_at(workspace, folder)
        alone = standing_alone(dag.dag_id, step, folder)
        problems += [*place.check(alone), *missing_files(alone, step, place)]
    if problems:
        raise DefinitionError(problems)


def missing_files(pipeline: Pipeline, step: Step, workspace: Workspace) -> Iterator[Problem]:
    """Yield a problem for each file that a step names and that is not there."""
    file = str(pipeline.source_file or "")
    remedy = f"Correct it; relative paths begin at {pipeline.folder}"
    directory = pipeline.source_directory(step)
    if directory is not None and not directory.is_dir():
        where = f"steps.{step.name}.source_directory"
        yield Problem(file, 0, 0, where, "there is no such folder", remedy, str(directory))
    elif isinstance(step, PythonScriptStep) and directory is not None and not (directory / step.script_name).is_file():
        message = f"there is no such file in {directory}"
        yield Problem(file, 0, 0, f"steps.{step.name}.script_name", message, remedy, step.script_name)
    required = workspace.environment_of(pipeline, step).requirements_path(Path("/"))
    if required is not None and not required.is_file():
        where = f"steps.{step.name}.environment.requirements_file"
        yield Problem(file, 0, 0, where, "there is no such file", remedy, str(required))


def _unknown_parameters(step: Step, params: Collection[str]) -> Iterator[Problem]:
    for path, ref in step.references():
        own = step.parameters if path[0] != "parameters" else ()
        if ref.kind == "parameters" and ref.name not in params and ref.name not in own:
            remedy = did_you_mean(ref.name, [*params, *own], "parameters.")
            message = "names a parameter that neither the DAG's params nor the operator's parameters have"
            yield Problem("", 0, 0, f"{step.name}.{path[0]}", message, remedy, str(ref))


def _is_parsed(file: str) -> bool:
    """Say whether the code of a file, as such and not of a function in it, is being run now."""
    frame = sys._getframe()  # noqa: SLF001 -- as Airflow does, to learn which file makes a DAG
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == file:
            return True
    return False
