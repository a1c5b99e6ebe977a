"""The step directory on the worker: made, filled, and gone when the step ends."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers import abandoned
from airflow_mlpipe.resolving.references import token_now
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.stage import Staged, prepare
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.runtime.external import OpenUri
    from airflow_mlpipe.runtime.protocol import StepSpec
    from airflow_mlpipe.store.store import Store


@contextlib.contextmanager
def step_directory(store: Store, claim: str) -> Iterator[Path]:
    """Make a step directory; it goes when the step ends, except for the outputs of one that failed.

    It lies below the root of a local store, so that publishing is a rename.
    """
    root = _make_directory(store, claim)
    try:
        yield root
    except StepError as error:
        kept = _keep_outputs(StepDirectory(root))
        if kept is None:
            remove(root)
            raise
        message = f"{error}\nwhat it wrote is kept for inspection in {kept}"
        raise type(error)(message) from error
    except BaseException:
        remove(root)
        raise
    remove(root)


def fill(store: Store, spec: StepSpec, root: Path, open_uri: OpenUri) -> Staged:
    """Fill an empty step directory; see `airflow_mlpipe.runtime.stage.prepare`.

    :raises StepError: if the disk does not take it.
    """
    try:
        return prepare(store, spec, root, open_uri, token_now)
    except OSError as error:
        message = f"the step directory {root} cannot be filled: {error}; see the space and the rights there"
        raise StepError(message) from error


def sweep() -> list[Path]:
    """Remove the step directories that killed processes of this machine left among its temporary files."""
    left = abandoned.found()
    for folder in left:
        remove(folder)
    abandoned.remove_links()
    return left


def remove(folder: Path) -> None:
    """Remove a folder, also where the command made parts of it read-only."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                with contextlib.suppress(OSError):  # somebody else's: a container wrote it
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)  # what is still left only takes room


def _make_directory(store: Store, claim: str) -> Path:
    if store.local_root is None:
        sweep()
        return abandoned.make()
    root = (store.local_root / layout.work(claim)).resolve()
    remove(root)
    root.mkdir(mode=0o700, parents=True)
    return root


def _keep_outputs(directory: StepDirectory) -> Path | None:
    """Remove all of a step directory but its outputs and messages; return the folder of the outputs unless empty."""
    if not directory.outputs.is_dir() or not any(directory.outputs.iterdir()):
        return None
    for folder in (directory.code, directory.inputs, directory.home.parent):
        remove(folder)
    return directory.outputs
