"""``mlpipe validate``: every problem of every definition at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.cli.project import workspace_file
from airflow_mlpipe.definitions import find_workspace, load_module, load_pipeline, load_workspace
from airflow_mlpipe.definitions.workspace import FILE_NAME
from airflow_mlpipe.exceptions import DefinitionError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIXES = (".yaml", ".yml")


def files_of(paths: Iterable[Path]) -> tuple[list[Path], list[Problem]]:
    """Return the definition files that paths stand for, each once: a folder stands for its YAML files."""
    files: dict[Path, None] = {}
    problems = []
    for path in paths:
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
        if not found:
            problems.append(Problem(str(path), 0, 0, "", "holds no definition", "Name a folder with .yaml files"))
        files.update(dict.fromkeys(found))
    return list(files), problems


def problems_of(file: Path, workspace: Path | None) -> tuple[Problem, ...]:
    """Return everything that is wrong with a pipeline, a module or a workspace file."""
    try:
        _read(file, workspace)
    except DefinitionError as error:
        return error.problems
    return ()


def _read(file: Path, workspace: Path | None) -> None:
    if file.name == FILE_NAME:
        load_workspace(file)
    elif file.absolute().parent in _module_folders(file, workspace):
        load_module(file)
    else:
        found = find_workspace(workspace_file(workspace), file.parent, None)
        load_pipeline(file, found, callbacks=True)


def _module_folders(file: Path, workspace: Path | None) -> Iterator[Path]:
    """Yield where modules lie: beside the definitions, or where the folder above names them."""
    named = workspace_file(workspace)
    for folder in (file.absolute().parent, file.absolute().parent.parent):
        yield from find_workspace(named, folder, None).module_folders.folders
