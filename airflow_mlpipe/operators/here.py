"""The site of the Airflow installation a task runs in."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.configuration import AIRFLOW_HOME
from airflow.sdk.configuration import conf

from airflow_mlpipe.definitions import find_workspace
from airflow_mlpipe.definitions.load import WORKSPACE_VARIABLE
from airflow_mlpipe.hooks.connections import login, storage_options
from airflow_mlpipe.resolving.site import Site

if TYPE_CHECKING:
    from airflow_mlpipe.definitions import Workspace


def workspace_at(explicit: str | Path | None, folder: Path) -> Workspace:
    """Return the workspace: the given file, else ``MLPIPE_WORKSPACE``, else ``[mlpipe] workspace``, else the default.

    :raises DefinitionError: if the file is broken or missing.
    """
    named = explicit or os.environ.get(WORKSPACE_VARIABLE) or conf.get("mlpipe", "workspace", fallback=None)
    return _workspace(Path(named) if named else None, folder)


@lru_cache(maxsize=256)
def _workspace(named: Path | None, folder: Path) -> Workspace:
    return find_workspace(named, folder, None)


def open_site(workspace: Workspace) -> Site:
    """Open the store and the datastores of a workspace, with Airflow's connections."""
    store = Path(AIRFLOW_HOME) / "mlpipe"
    return Site.open(workspace, default_store=store, storage_options=storage_options, login_of=login)
