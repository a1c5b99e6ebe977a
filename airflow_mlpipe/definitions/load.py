"""Reading definitions from YAML files; every problem of a file comes at once, with its place."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_mlpipe.definitions.assemble import Surroundings
from airflow_mlpipe.definitions.files import file_faults
from airflow_mlpipe.definitions.pipeline import Pipeline
from airflow_mlpipe.definitions.reading import look
from airflow_mlpipe.definitions.workspace import FILE_NAME, Workspace
from airflow_mlpipe.exceptions import DefinitionError, Problem

WORKSPACE_VARIABLE = "MLPIPE_WORKSPACE"


def load_pipeline(path: Path | str, workspace: Workspace | None = None) -> Pipeline:
    """Return the pipeline that a file holds, checked against its workspace and the files it names.

    :param workspace: by default what `find_workspace` finds for the file's folder.
    :raises DefinitionError: with everything that is wrong.
    """
    path = Path(path)
    return loads(_text(path), folder=path.parent.absolute(), workspace=workspace, file=path)


def loads(
    text: str, folder: Path | None = None, workspace: Workspace | None = None, file: Path | None = None
) -> Pipeline:
    """Return the pipeline that a text holds.

    :param folder: where relative paths start; by default the current directory.
    :raises DefinitionError: with everything that is wrong.
    """
    folder = Path.cwd() if folder is None else folder
    workspace = find_workspace(None, folder, None) if workspace is None else workspace
    around = Surroundings(workspace.module_folders.find, folder)
    looked = look(Pipeline, text, "<text>" if file is None else str(file), {"around": around})
    if looked.definition is not None:
        looked.definition.folder = folder
        looked.definition.source_file = file
        looked.add(workspace.faults(looked.definition))
        looked.add(file_faults(looked.definition))
    return looked.sound()


def load_workspace(path: Path | str) -> Workspace:
    """Return the workspace that a file, or `mlpipe.yaml` in a folder, holds.

    :raises DefinitionError: with everything that is wrong, or if there is no such file.
    """
    path = Path(path).expanduser()
    path = path / FILE_NAME if path.is_dir() else path
    return look(Workspace, _text(path), str(path)).sound().located(path.parent.absolute())


def find_workspace(explicit: Path | str | None, folder: Path, airflow_setting: str | None) -> Workspace:
    """Return the workspace to use.

    The first of: the one named explicitly, `$MLPIPE_WORKSPACE`, Airflow's `[mlpipe] workspace`, `mlpipe.yaml` in the
    folder of the definition, and else the embedded default (local compute, the store under `$AIRFLOW_HOME/mlpipe`).

    :raises DefinitionError: if the one named is wrong or not there.
    """
    named = explicit or os.environ.get(WORKSPACE_VARIABLE) or airflow_setting
    if named:
        return load_workspace(named)
    beside = folder / FILE_NAME
    return load_workspace(beside) if beside.is_file() else Workspace().located(folder)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        remedy = "Check the path" if isinstance(error, FileNotFoundError) else "Check that it is a readable file"
        raise DefinitionError([Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}", remedy)]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: {error.reason} at byte {error.start}"
        raise DefinitionError([Problem(str(path), 0, 0, "", message, "Save it as UTF-8")]) from None
