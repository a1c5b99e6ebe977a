"""What the staging containers are told, by variables and mounted files, and what they open with it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataError, RecordFormatError, StepError
from airflow_mlpipe.runtime.protocol import StepSpec, load_spec
from airflow_mlpipe.store import layout, s3
from airflow_mlpipe.store.attempts import without_password
from airflow_mlpipe.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

OPTIONS = "options.json"
"""The file that holds storage options: ``{"store": {...}, "datastores": {name: {...}}}``."""

VARIABLES = (
    "MLPIPE_STORE",
    "MLPIPE_FINGERPRINT",
    "MLPIPE_CLAIM",
    "MLPIPE_STEP_DIRECTORY",
    "MLPIPE_STAGING",
    "MLPIPE_GRACE",
)
"""What the staging containers cannot do without; see `Told`."""


@dataclass(frozen=True)
class Told:
    """What the pod says to its staging containers.

    ``root`` is the step directory, ``private`` a folder that only they see. ``grace`` is how many seconds a container
    has after SIGTERM, ``checkpoint`` how many lie between two saved states. ``credentials`` and
    ``secrets`` are mounted Secrets: storage options, and the user's variables, whose values are never shown.
    ``mounted`` says where inputs lie that are mounted instead of copied. ``remove`` is a folder to be removed at the end.
    Where a step runs on many nodes, ``node`` is the number of this one, ``attempt`` says for which time they were begun.
    """

    store: str
    fingerprint: str
    claim: str
    root: Path
    private: Path
    grace: int
    checkpoint: int = 60
    credentials: Path | None = None
    secrets: Path | None = None
    mounted: Mapping[str, str] = field(default_factory=dict)
    remove: Path | None = None
    node: int = 0
    nodes: int = 1
    attempt: str = ""
    message: Path = Path("/dev/termination-log")

    @classmethod
    def by(cls, variables: Mapping[str, str]) -> Told:
        """Return what variables say.

        :raises StepError: if one is missing.
        """
        if missing := [name for name in VARIABLES if not variables.get(name)]:
            message = f"{', '.join(missing)} not set: this program is started by a pod of airflow-mlpipe, not by hand"
            raise StepError(message)
        return cls(
            store=variables["MLPIPE_STORE"],
            fingerprint=variables["MLPIPE_FINGERPRINT"],
            claim=variables["MLPIPE_CLAIM"],
            root=Path(variables["MLPIPE_STEP_DIRECTORY"]),
            private=Path(variables["MLPIPE_STAGING"]),
            grace=int(variables["MLPIPE_GRACE"]),
            checkpoint=int(variables.get("MLPIPE_CHECKPOINT_SECONDS") or cls.checkpoint),
            credentials=_path(variables, "MLPIPE_CREDENTIALS"),
            secrets=_path(variables, "MLPIPE_SECRETS"),
            mounted=json.loads(variables.get("MLPIPE_MOUNTED", "{}")),
            remove=_path(variables, "MLPIPE_REMOVE"),
            node=int(variables.get("MLPIPE_NODE") or cls.node),
            nodes=int(variables.get("MLPIPE_NODES") or cls.nodes),
            attempt=variables.get("MLPIPE_ATTEMPT", ""),
            message=_path(variables, "MLPIPE_TERMINATION_LOG") or cls.message,
        )

    def values_to_hide(self) -> list[str]:
        """Return the values of the user's secret variables."""
        if self.secrets is None:
            return []
        return [path.read_text("utf-8") for path in sorted(self.secrets.iterdir()) if path.is_file()]


class Access:
    """The store and the data outside of it, opened with what is mounted here."""

    def __init__(self, told: Told) -> None:
        self._options = _options(told.credentials)
        self.store = Store.open(told.store, self._options.get("store"))
        self._mounted: dict[str, str] = {}

    def spec(self, told: Told) -> StepSpec:
        """Read the message into the step, and remember where its mounted inputs lie.

        :raises StepError: if there is none in the store.
        """
        path = layout.spec(told.fingerprint, told.claim)
        try:
            spec = load_spec(self.store.read_json(path))
        except FileNotFoundError as error:
            message = (
                f"{self.store.uri(path)} is not there; see that the pod opens the same store as the worker, "
                "with credentials for it"
            )
            raise StepError(message) from error
        for name, place in told.mounted.items():
            uri = spec.inputs[name].uri if name in spec.inputs else None
            if uri is not None and uri.startswith("file:"):  # others tell their version themselves
                self._mounted[uri] = place
        return spec

    def open_uri(self, uri: str, datastore: str | None) -> tuple[AbstractFileSystem, str]:
        """Return the filesystem and path of a URI, opened with a datastore's credentials.

        :raises DataError: if nothing here can open such a URI.
        """
        if (path := self.store.path_of(uri)) is not None and datastore is None:
            return self.store.fs, self.store.full(path)
        options = self._options.get("datastores", {}).get(datastore, {})
        try:
            return s3.open_url(self._mounted.get(uri, uri), options)
        except (ValueError, ImportError) as error:
            message = f"nothing in the staging image can open {uri}: {without_password(str(error))}"
            raise DataError(message) from error


def _path(variables: Mapping[str, str], name: str) -> Path | None:
    return Path(variables[name]) if variables.get(name) else None


def _options(credentials: Path | None) -> dict[str, Any]:
    """Read storage options; without the file the libraries find variables and identities by themselves."""
    if credentials is None or not os.path.exists(path := credentials / OPTIONS):  # noqa: PTH110 -- as short
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except ValueError:  # which would show what is in it
        message = f"{OPTIONS} of the staging Secret is no JSON; expected {{'store': {{...}}, 'datastores': {{...}}}}"
        raise RecordFormatError(message) from None
