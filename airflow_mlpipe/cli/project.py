"""What a command works on: a definition, its workspace, its store, and the folder where private things lie."""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import find_workspace, load_pipeline, loads
from airflow_mlpipe.definitions.load import COMPUTE_VARIABLE
from airflow_mlpipe.exceptions import AirflowError, DefinitionError, MlpipeError, Problem
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.store.digests import StatIndex
from airflow_mlpipe.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.definitions import Pipeline, Workspace
    from airflow_mlpipe.resolving.logins import Login

HOME_VARIABLE = "MLPIPE_HOME"
STORE_VARIABLE = "MLPIPE_STORE"
PRIVATE = ".mlpipe"


class Place:
    """Where a workspace keeps things on this machine: its store, and the folder of a private Airflow.

    ``url`` is a store that was named, in place of what workspace and environment say.
    """

    workspace: Workspace
    private: Path
    url: str | None

    @property
    def airflow_home(self) -> Path:
        """The home of the private Airflow."""
        return self.private / "airflow"

    @property
    def default_store(self) -> Path:
        """Where outputs are kept if neither ``MLPIPE_STORE`` nor the workspace says so."""
        home = os.environ.get("AIRFLOW_HOME")
        return Path(home).expanduser().absolute() / "mlpipe" if home else self.private / "store"

    @cached_property
    def site(self) -> Site:
        """The store and the datastores, opened; Airflow is asked only for a connection that is really used."""
        if self.url is not None:
            store = Store.open(self.url)
            return Site(self.workspace, store, StatIndex.open(), self._storage_options, login_of=self._login)
        return Site.open(
            self.workspace,
            default_store=self.default_store,
            storage_options=self._storage_options,
            login_of=self._login,
        )

    def _storage_options(self, connection: str) -> Mapping[str, Any]:
        self._find_airflow()
        from airflow_mlpipe.hooks.connections import storage_options  # noqa: PLC0415 -- imports Airflow

        return storage_options(connection)

    def _login(self, connection: str) -> Login:
        self._find_airflow()
        from airflow_mlpipe.hooks.connections import login  # noqa: PLC0415 -- imports Airflow

        return login(connection)

    def _find_airflow(self) -> None:
        """Make Airflow's connections be those of the private home, unless this process has another one."""
        from airflow_mlpipe.airflow_home import ensure_database, make_home  # noqa: PLC0415 -- seconds, rarely needed

        if "AIRFLOW_HOME" not in os.environ:
            os.environ.update(make_home(self.airflow_home, self.airflow_home / "dags"))
            ensure_database(self.airflow_home)


@dataclass(frozen=True)
class Project(Place):
    """A pipeline with all that its runs on this machine need.

    ``workspace_file`` is the workspace that was named; None where it is the one beside the definition, or the default.
    ``private`` is the folder of the private Airflow, the logs and, unless something else is said, the store.
    ``compute`` is the compute target that was named in place of the workspace's default.
    """

    pipeline: Pipeline
    file: Path
    workspace: Workspace
    workspace_file: Path | None
    private: Path
    url: str | None = None
    compute: str | None = None

    @classmethod
    def open(
        cls,
        file: Path,
        *,
        workspace: Path | None = None,
        folder: Path | None = None,
        store: str | None = None,
        compute: str | None = None,
    ) -> Project:
        """Read a definition and its workspace.

        :param folder: where the definition's relative paths start; by default its own folder.
        :param store: the store, in place of what workspace and environment say.
        :param compute: the compute target of steps and pipelines that name none, in place of the workspace's default.
        :raises DefinitionError: with everything that is wrong with either.
        """
        named = workspace_file(workspace)
        pipeline, found = load(file.absolute(), folder, named, compute)
        return cls(pipeline, file.absolute(), found, named, default_private(found.folder), store, compute)

    def variables(self) -> dict[str, str]:
        """Return the variables that lead another process to the very same store and compute target."""
        chosen = {COMPUTE_VARIABLE: self.compute} if self.compute else {}
        return {**self.store_variables(), **chosen}

    def store_variables(self) -> dict[str, str]:
        """Return the variables that lead another process to the very same store."""
        if self.workspace.store is not None and not os.environ.get(STORE_VARIABLE):
            return {}  # the other process reads the workspace, too, and with it the store's connection
        return {STORE_VARIABLE: self.site.store.url}

    def make_private(self) -> None:
        """Make the private folder, unless it is there; git sees nothing of it.

        :raises AirflowError: if it cannot be made.
        """
        ignore = self.private / ".gitignore"
        try:
            if not ignore.exists():
                self.private.mkdir(parents=True, exist_ok=True)
                ignore.write_text("*\n")
        except OSError as error:
            message = f"the folder {self.private} cannot be made ({error.strerror}): name another in {HOME_VARIABLE}"
            raise AirflowError(message) from error


@dataclass(frozen=True)
class StorePlace(Place):
    """A store without any pipeline."""

    workspace: Workspace
    private: Path
    url: str | None = None

    @classmethod
    def open(cls, url: str | None, workspace: Path | None) -> StorePlace:
        """Find the store that is named, or else that of the workspace: one that is named, or the one of this folder.

        :raises DefinitionError: if the workspace is broken.
        :raises MlpipeError: if there is no store.
        """
        found = find_workspace(workspace_file(workspace), Path.cwd(), None)
        place = cls(found, default_private(found.folder), url)
        root = place.site.store.local_root
        if root is not None and not root.is_dir():
            message = f"there is no store at {root}: name another one with --store, or run a pipeline first"
            raise MlpipeError(message)
        return place


def default_private(folder: Path) -> Path:
    """Return the private folder of what lies in a folder; ``MLPIPE_HOME`` names another."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).expanduser().absolute() if home else folder.absolute() / PRIVATE


def load(
    file: Path, folder: Path | None, workspace: Path | None, compute: str | None = None
) -> tuple[Pipeline, Workspace]:
    """Read a definition and its workspace; the DAG file of a run calls it too, so both see the same.

    :raises DefinitionError: with everything that is wrong with either.
    """
    found = find_workspace(workspace, folder or file.parent, None)
    found = found.computing_on(compute) if compute else found
    if folder is None:
        return load_pipeline(file, found), found
    return loads(file.read_text("utf-8"), folder, found, file), found


def workspace_file(option: Path | None) -> Path | None:
    """Return the workspace file that is named: by the option, the environment, or Airflow's settings."""
    named = option or os.environ.get("MLPIPE_WORKSPACE") or os.environ.get("AIRFLOW__MLPIPE__WORKSPACE")
    named = named or _airflow_setting()
    return Path(named).expanduser().absolute() if named else None


def _airflow_setting() -> str | None:
    """Return ``[mlpipe] workspace`` of the user's own Airflow, read without importing it."""
    home = os.environ.get("AIRFLOW_HOME")
    file = Path(home).expanduser() / "airflow.cfg" if home else None
    if file is None or not file.is_file():
        return None
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(file, "utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        problem = Problem(str(file), 0, 0, "", f"cannot be read: {error}", "Correct it, or give --workspace")
        raise DefinitionError([problem]) from None
    return parser.get("mlpipe", "workspace", fallback=None) or None
