"""Where a run takes place: the workspace's store and datastores, opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.logins import no_logins
from airflow_mlpipe.resolving.user_cache import cache_folder
from airflow_mlpipe.store import deliveries, s3
from airflow_mlpipe.store.attempts import ELSEWHERE, without_password
from airflow_mlpipe.store.digests import StatIndex, digest_object, digest_path
from airflow_mlpipe.store.sides import Side, refuse_overlap
from airflow_mlpipe.store.store import Store
from airflow_mlpipe.store.transfer import mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsspec import AbstractFileSystem

    from airflow_mlpipe.definitions import Workspace
    from airflow_mlpipe.resolving.logins import LoginOf
    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.digests import Content

StorageOptions: TypeAlias = "Callable[[str], Mapping[str, Any]]"
"""Gives the storage options that an Airflow connection stands for."""


def no_connections(connection: str) -> Mapping[str, Any]:
    """Refuse a connection, outside Airflow.

    :raises DataError: always; whoever can ask Airflow gives another function.
    """
    message = f"connection {connection!r} is kept by Airflow, which this command does not ask"
    raise DataError(message)


@dataclass(frozen=True)
class Site:
    """The store, the datastores and the stat index that one process works with.

    ``connection`` is the Airflow connection that opens the store, where one is needed. ``login_of`` gives what the
    connection of a registry or an engine says.
    """

    workspace: Workspace
    store: Store
    index: StatIndex
    storage_options: StorageOptions
    connection: str | None = None
    login_of: LoginOf = no_logins

    @classmethod
    def open(
        cls,
        workspace: Workspace,
        *,
        default_store: str | Path,
        storage_options: StorageOptions = no_connections,
        login_of: LoginOf = no_logins,
    ) -> Site:
        """Open the store of a workspace.

        ``MLPIPE_STORE`` in the environment wins over the workspace, the workspace over ``default_store``.

        :raises StoreUnreachableError: if the store cannot be opened.
        """
        url = os.environ.get("MLPIPE_STORE")
        connection = None
        if not url and (store := workspace.output_store):
            url, connection = store.url, store.connection
        options = storage_options(connection) if connection else {}
        opened = Store.open(str(url or default_store), options)
        return cls(workspace, opened, StatIndex.open(), storage_options, connection, login_of)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders on this machine that are ours, and nobody's code: the store, the private folder, the cache."""
        home = os.environ.get("MLPIPE_HOME")
        mine = (self.store.local_root, Path(home).expanduser() if home else None, cache_folder())
        return tuple(folder.absolute() for folder in mine if folder is not None)

    def open_uri(self, uri: str, datastore: str | None) -> tuple[AbstractFileSystem, str]:
        """Return the filesystem and path of a URI, opened with a datastore's credentials.

        :raises DataError: if nothing can open such a URI, or it holds a password: it would be written down.
        """
        if (shown := without_password(uri)) != uri:
            message = f"the URL {shown} holds a password or a signature; {ELSEWHERE}"
            raise DataError(message)
        if (path := self.store.path_of(uri)) is not None and datastore is None:
            return self.store.fs, f"{self.store.root}/{path}"
        connection = self.workspace.datastore(datastore).connection if datastore else None
        options = self.storage_options(connection) if connection else {}
        try:
            fs, path = s3.open_url(uri, options)
        except (ValueError, ImportError) as error:
            message = f"nothing here can open {uri}: {without_password(str(error))}"
            raise DataError(message) from error
        return fs, path

    def holds(self, uri: str, datastore: str | None, content: Content) -> bool:
        """Say whether a destination holds just this content."""
        fs, path = self.open_uri(uri, datastore)
        try:
            local = "file" in _protocols(fs)
            found = digest_path(Path(path), self.index) if local else digest_object(fs, path)
        except (DataError, FileNotFoundError, NotADirectoryError):
            return False
        return found.digest == content.digest

    def deliver(self, output: OutputRef, uri: str, datastore: str | None) -> None:
        """Copy a published output to a destination, which then holds nothing else.

        A file is replaced by the one that belongs there; anything else there is removed only if an earlier delivery
        of this store left it, and it is still as it was then.

        :raises DataError: if the output cannot be read, the destination cannot be written, or it holds something else.
        """
        source_fs, source = self.store.fs, self.store.full(output.path)
        target_fs, target = self.open_destination(uri, datastore)
        left = deliveries.read(self.store, uri)
        done = mirror(source_fs, source, target_fs, target, output.content, ours=left, index=self.index)
        deliveries.write(self.store, uri, done.files)

    def open_destination(self, uri: str, datastore: str | None) -> tuple[AbstractFileSystem, str]:
        """Return the filesystem and path of a URI that is to be overwritten.

        :raises DataError: if nothing can open it, or it would overwrite the output store.
        """
        fs, path = self.open_uri(uri, datastore)
        store = Side(self.store.fs, self.store.root)
        refuse_overlap(store, Side(fs, path), f"the output store {store}", uri)
        return fs, path


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
