"""Where the paths of definitions lead: URLs, and what a destination must not take the place of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def uri(place: str, folder: Path) -> str:
    """Return a URL as it is, and a path as an absolute ``file://`` URL."""
    if _URL.match(place):
        return place
    return "file://" + (folder / Path(place).expanduser()).absolute().as_posix()


def refuse_empty(text: str, substitute: Callable[[str], str]) -> None:
    """Refuse a destination that would be the folder around it, as a value in it is empty.

    :raises DataError: then.
    """
    for part in text.split("/"):
        if "${{" in part and not substitute(part).strip("/. "):
            message = f"the destination {text!r} would be the folder around it, since {part} is {substitute(part)!r}; give a value"
            raise DataError(message)


def holds(found: str, folder: Path) -> bool:
    """Say whether a URL is that of a folder, or of one around it."""
    return found.startswith("file://") and folder.absolute().is_relative_to(os.path.normpath(found[len("file://") :]))
