"""`MlflowTracking`: the MLflow server that is told of every run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.faults import Fault, shown
from airflow_mlpipe.store.attempts import ELSEWHERE, without_password

_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?\Z")


class MlflowTracking(Definition):
    """Tells an MLflow tracking server of every run: one run of its own for each, one below it for each step."""

    tracking_uri: str
    """The address of the server: `http://mlflow.example.com:5000`."""
    connection: str | None = None
    """The id of the Airflow connection with the login, or, where it has no login, the token as its password."""
    experiment: str | None = None
    """The MLflow experiment of pipelines that name none; each has its own where it is not given."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow the address alone."""
        return {"tracking_uri": data} if isinstance(data, str) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if (plain := without_password(self.tracking_uri)) != self.tracking_uri:
            yield Fault(("tracking_uri",), f"holds a password; {ELSEWHERE}", "Name a connection", shown(plain))
        elif not _ADDRESS.match(self.tracking_uri):
            message = "is no address of an MLflow server"
            yield Fault(("tracking_uri",), message, "Write it as http://<host>:<port>", shown(self.tracking_uri))

    @property
    def address(self) -> str:
        """The address without a slash at its end."""
        return self.tracking_uri.rstrip("/")


def tracking(value: object) -> object:
    """Take the address alone for a tracking server, inside a validator."""
    return MlflowTracking.__pydantic_validator__.validate_python(value) if isinstance(value, str | Mapping) else value
