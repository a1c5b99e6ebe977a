"""Reading definitions from YAML files; every problem of a file comes at once, with its place."""

from __future__ import annotations

import os
from pathlib import Path

from airflow_mlpipe.definitions.assemble import Surroundings
from airflow_mlpipe.definitions.callbacks import callback_faults
from airflow_mlpipe.definitions.files import file_faults
from airflow_mlpipe.definitions.pipeline import Pipeline
from airflow_mlpipe.definitions.reading import look
from airflow_mlpipe.definitions.workspace import FILE_NAME, Workspace
from airflow_mlpipe.exceptions import DefinitionError, Problem

WORKSPACE_VARIABLE = "MLPIPE_WORKSPACE"
COMPUTE_VARIABLE = "MLPIPE_COMPUTE"
"""Names the compute target of steps and pipelines that name none, in place of the workspace's default."""


def load_pipeline(path: Path | str, workspace: Workspace | None = None, *, callbacks: bool = False) -> Pipeline:
    """Return the pipeline that a file holds, checked against its workspace and the files it names.

    :param workspace: by default what `find_workspace` finds for the file's folder.
    :param callbacks: whether the functions that Airflow shall call must be found here, too.
    :raises DefinitionError: with everything that is wrong.
    """
    path = Path(path)
    return loads(_text(path), folder=path.parent.absolute(), workspace=workspace, file=path, callbacks=callbacks)


def loads(
    text: str,
    folder: Path | None = None,
    workspace: Workspace | None = None,
    file: Path | None = None,
    *,
    callbacks: bool = False,
) -> Pipeline:
    """Return the pipeline that a text holds; see `load_pipeline`.

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
        looked.add(callback_faults(looked.definition) if callbacks else ())
    return looked.sound()


def load_workspace(path: Path | str) -> Workspace:
    """Return the workspace that a file, or `mlpipe.yaml` in a folder, holds.

    :raises DefinitionError: with everything that is wrong, or if there is no such file.
    """
    path = Path(path).expanduser()
    path = path / FILE_NAME if path.is_dir() else path
    return look(Workspace, _text(path), str(path)).sound().located(path.parent.absolute(), path.absolute())


def find_workspace(explicit: Path | str | None, folder: Path, airflow_setting: str | None) -> Workspace:
    """Return the workspace to use.

    The first of: the one named explicitly, `$MLPIPE_WORKSPACE`, Airflow's `[mlpipe] workspace`, `mlpipe.yaml` in the
    folder of the definition, and else the embedded default (local compute, the store under `$AIRFLOW_HOME/mlpipe`).
    `$MLPIPE_COMPUTE` takes the place of its default compute target.

    :raises DefinitionError: if the one named is wrong or not there, or it has no such compute target.
    """
    named = explicit or os.environ.get(WORKSPACE_VARIABLE) or airflow_setting
    beside = folder / FILE_NAME
    if named or beside.is_file():
        found = load_workspace(named or beside)
    else:
        found = Workspace().located(folder, beside.absolute())
    compute = os.environ.get(COMPUTE_VARIABLE)
    return found.computing_on(compute) if compute else found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        remedy = "Check the path" if isinstance(error, FileNotFoundError) else "Check that it is a readable file"
        raise DefinitionError([Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}", remedy)]) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text: {error.reason} at byte {error.start}"
        raise DefinitionError([Problem(str(path), 0, 0, "", message, "Save it as UTF-8")]) from None
