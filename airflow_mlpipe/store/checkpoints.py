"""What a step wants to find again at its next try, kept by its fingerprint until that is recorded.

A saved state is whole or absent: its files come under a fresh name, and what names it is written last.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataChangedError, DataError, RecordFormatError, StoreError
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import Content, digest_path, digest_tree
from airflow_mlpipe.store.outputs import fetch
from airflow_mlpipe.store.tree import files_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.store.store import Store
    from airflow_mlpipe.store.tree import TreeFile

_LATEST = "latest.json"


def save(store: Store, fingerprint: str, folder: Path, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Save a folder in place of what was saved before; return whether that was done.

    It is not where the folder is empty, something writes to it meanwhile, or somebody stops it.

    :param stopped: asked before each file.
    :raises DataError: if the folder holds what cannot be data.
    :raises StoreUnreachableError: if the store cannot be written.
    """
    if folder.is_symlink():  # it may lead to what only this process may read
        message = f"{str(folder)!r} is a link; leave the folder that it was, and write into it"
        raise DataError(message)
    files = files_of(str(folder))
    if not files:
        return False
    name = secrets.token_hex(8)
    target = layout.checkpoint(fingerprint, name)
    try:
        content = digest_tree(files)
        for relative, file in files.items():
            if stopped():
                break
            store.upload(Path(file.path), f"{target}/{relative}")
        whole = not stopped() and _stamps(files) == _stamps(files_of(str(folder)))
    except (DataChangedError, FileNotFoundError):  # it is being written just now
        whole = False
    except BaseException:
        _remove_quietly(store, target)
        raise
    if not whole:
        _remove_quietly(store, target)
        return False
    store.write(layout.latest_checkpoint(fingerprint), json.dumps({"name": name, "content": asdict(content)}).encode())
    _remove_others(store, fingerprint, name)
    return True


def restore(store: Store, fingerprint: str, target: Path) -> bool:
    """Bring what was saved last to a path that does not exist yet; return whether there is any that is whole.

    :raises StoreUnreachableError: if the store cannot be read.
    """
    try:
        data = store.read_json(layout.latest_checkpoint(fingerprint))
        name, content = str(data["name"]), Content(**data["content"])
        fetch(store.fs, store.full(layout.checkpoint(fingerprint, name)), target, link=False, content=content)
        if digest_path(target).digest == content.digest:
            return True
    except (FileNotFoundError, DataError, RecordFormatError, KeyError, TypeError):  # damaged, or gone meanwhile
        pass
    shutil.rmtree(target, ignore_errors=True)
    return False


def remove(store: Store, fingerprint: str) -> None:
    """Remove what was saved for a fingerprint; there may be nothing."""
    store.remove(layout.checkpoints(fingerprint))


def _stamps(files: dict[str, TreeFile]) -> dict[str, tuple[int, int, int]]:
    return {
        path: (file.status.st_size, file.status.st_mtime_ns, file.status.st_ino) for path, file in sorted(files.items())
    }


def _remove_others(store: Store, fingerprint: str, kept: str) -> None:
    for name in store.names(layout.checkpoints(fingerprint)):
        if name not in {kept, _LATEST} and not name.startswith("."):
            _remove_quietly(store, layout.checkpoint(fingerprint, name))


def _remove_quietly(store: Store, path: str) -> None:
    with contextlib.suppress(StoreError):  # it goes with the next one, or when the step is recorded
        store.remove(path)
