"""Whose the files of a mounted step directory are: the container's user's while it runs, the worker's afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.runtime.layout import StepDirectory


def give(directory: StepDirectory, owner: tuple[int, int] | None) -> None:
    """Give what a command may write to another user; only root can, and has to."""
    if owner is None or os.geteuid() != 0 or owner[0] == 0:
        return
    directory.root.chmod(0o711)  # others pass, and look at nothing
    for part in (directory.code, directory.outputs, directory.checkpoint, directory.home.parent, directory.metrics):
        if part.exists():
            _change(part, *owner)


def take(directory: StepDirectory, owner: tuple[int, int] | None) -> None:
    """Take it back, so that nobody but this process may write to what is published."""
    if owner is not None and os.geteuid() == 0:
        for part in filter(Path.exists, (directory.outputs, directory.checkpoint, directory.metrics)):
            _change(part, os.getuid(), os.getgid())


def _change(part: Path, uid: int, gid: int) -> None:
    os.chown(part, uid, gid, follow_symlinks=False)
    if part.is_symlink():  # put there by the command: what it leads to on this machine is none of its files
        return
    for parent, folders, files in os.walk(part):
        for name in (*folders, *files):
            os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)  # noqa: PTH118 -- thousands of files
