"""What outputs left at their destinations: the next delivery removes nothing that an earlier one did not put there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.store.store import Store

FORMAT = 1


def read(store: Store, destination: str) -> dict[str, str]:
    """Return the digests of the files that lie at a destination since the last delivery, by relative path.

    Nothing where there was none, or nobody can tell: what is there is then taken for somebody else's.
    """
    try:
        data = store.read_json(_path(destination))
    except (FileNotFoundError, RecordFormatError):
        return {}
    match data:
        case {"format": 1, "files": dict(files)}:
            return files
        case _:
            return {}


def write(store: Store, destination: str, files: Mapping[str, str]) -> None:
    """Keep what a delivery left."""
    data = {"format": FORMAT, "destination": destination, "files": dict(files)}
    store.write(_path(destination), json.dumps(data, ensure_ascii=False, sort_keys=True).encode())


def _path(destination: str) -> str:
    return layout.delivered(fingerprint({"destination": destination}))
