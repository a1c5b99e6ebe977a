"""Step directories among the temporary files of this machine, where the store is none: whose they are, and who was killed.

The name of each tells the process that made it, so that the next step, or `mlpipe cache prune`, removes those of processes
that are known to have ended. What a failed step wrote stays a week, as it does below a local store.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.store.owner import has_ended, process_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 7 * 86400.0
"""Seconds that the outputs of a failed step stay for inspection."""

_NAME = re.compile(r"mlpipe-step-([0-9a-z-]+)\.[^.]+\Z")
_LINK = re.compile(r"mlpipe-[0-9a-f]{8}\Z")


def make() -> Path:
    """Make a step directory that can be told to be this process's."""
    return Path(tempfile.mkdtemp(prefix=f"mlpipe-step-{process_tag()}.")).resolve()


def found() -> list[Path]:
    """Return the step directories of this user whose processes have ended."""
    return sorted(Path(entry.path) for entry in _of_user(tempfile.gettempdir()) if _is_abandoned(entry))


def remove_links() -> None:
    """Remove the short names of the temporary folders of steps that are gone; see `StepDirectory.short_temporary`."""
    for entry in _of_user("/tmp"):  # noqa: S108 -- only links of this user, which lead nowhere
        with contextlib.suppress(OSError):
            if _LINK.match(entry.name) and entry.is_symlink():
                root = Path(entry.path).readlink().parent.parent
                if StepDirectory(root).temporary == Path(entry.path).readlink() and not root.exists():
                    Path(entry.path).unlink()


def _of_user(folder: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it went meanwhile
                if entry.name.startswith("mlpipe-") and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    yield entry


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    match = _NAME.match(entry.name)
    if not match or not entry.is_dir(follow_symlinks=False) or not has_ended(match[1]):
        return False
    directory = StepDirectory(Path(entry.path))
    for_inspection = directory.outputs.is_dir() and not directory.code.exists()
    return not for_inspection or time.time() - entry.stat(follow_symlinks=False).st_mtime > KEPT
