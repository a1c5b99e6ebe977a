"""The site of the Airflow installation a task runs in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.configuration import AIRFLOW_HOME
from airflow.sdk.configuration import conf

from airflow_mlpipe.definitions import find_workspace
from airflow_mlpipe.hooks.connections import storage_options
from airflow_mlpipe.resolving.site import Site

if TYPE_CHECKING:
    from airflow_mlpipe.definitions import Workspace


def workspace_at(explicit: str | Path | None, folder: Path) -> Workspace:
    """Return the workspace: the given file, else ``MLPIPE_WORKSPACE``, else ``[mlpipe] workspace``, else the default.

    :raises DefinitionError: if the file is broken or missing.
    """
    return _workspace(Path(explicit) if explicit else None, folder, conf.get("mlpipe", "workspace", fallback=None))


@lru_cache(maxsize=256)
def _workspace(explicit: Path | None, folder: Path, setting: str | None) -> Workspace:
    return find_workspace(explicit, folder, setting)


def open_site(workspace: Workspace) -> Site:
    """Open the store and the datastores of a workspace, with Airflow's connections."""
    return Site.open(workspace, default_store=Path(AIRFLOW_HOME) / "mlpipe", storage_options=storage_options)
