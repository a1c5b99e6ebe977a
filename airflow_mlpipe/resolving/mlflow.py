"""Asks an MLflow tracking server, in its REST API 2.0: nothing of MLflow needs to be installed for it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlpipe.exceptions import TrackingError
from airflow_mlpipe.resolving.imagenames import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from airflow_mlpipe.resolving.logins import Login

_CONNECT, _ANSWER = 5.0, 15.0
"""Seconds until the server must have taken a connection, and given an answer."""
_REFUSED = 400
_LONGEST = {"params": 6_000, "tags": 5_000}
"""How many characters a value may have."""
_AT_ONCE = 100
"""How many parameters or tags a request may have."""
_NO_NAME = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class MlflowRun:
    """A run as the server knows it; ``began`` is in milliseconds since 1970."""

    id: str
    experiment: str = ""
    began: int = 0
    status: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> MlflowRun:
        """Return what an answer says of a run."""
        info, data = run["info"], run.get("data", {})
        return cls(
            info["run_id"],
            info.get("experiment_id", ""),
            int(info.get("start_time", 0)),
            info.get("status", ""),
            {item["key"]: item["value"] for item in data.get("metrics", ())},
            {item["key"]: item["value"] for item in data.get("params", ())},
            {item["key"]: item["value"] for item in data.get("tags", ())},
        )


class MlflowServer:
    """One tracking server. All its methods raise `TrackingError` where it does not answer, or refuses.

    :param address: without a slash at its end.
    :param login: who asks; without a username its password is a token.
    """

    def __init__(self, address: str, login: Login | None = None) -> None:
        self.address = address
        self._login = login
        self._client: httpx.Client | None = None

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which is made where there is none."""
        known = self._ask("GET", "experiments/get-by-name", {"experiment_name": name}, absent=True)
        if not known:
            made = self._ask("POST", "experiments/create", {"name": name}, absent=True)
            known = made and {"experiment": made}
        if not known:  # somebody else has made it in between
            known = self._ask("GET", "experiments/get-by-name", {"experiment_name": name})
        if known["experiment"].get("lifecycle_stage") == "deleted":
            message = f"its experiment {name!r} was deleted: restore it, or name another one"
            raise TrackingError(message)
        return str(known["experiment"]["experiment_id"])

    def begin(self, experiment: str, name: str, tags: Mapping[str, str]) -> MlflowRun:
        """Make a run, which is under way then."""
        given = {"experiment_id": experiment, "run_name": name, "start_time": _now(), "tags": _pairs("tags", tags)}
        return MlflowRun.of(self._ask("POST", "runs/create", given)["run"])

    def find(self, experiment: str, tag: str, value: str) -> list[MlflowRun]:
        """Return the runs with a tag, the oldest first. The value must hold no quote."""
        given = {"experiment_ids": [experiment], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1000}
        found = [MlflowRun.of(run) for run in self._ask("POST", "runs/search", given).get("runs", ())]
        return sorted(found, key=lambda run: (run.began, run.id))

    def read(self, run: str) -> MlflowRun:
        """Return a run as it is now."""
        return MlflowRun.of(self._ask("GET", "runs/get", {"run_id": run})["run"])

    def update(self, run: str, status: str) -> None:
        """Say how a run is: RUNNING, FINISHED, FAILED or KILLED."""
        ended = {} if status == "RUNNING" else {"end_time": _now()}
        self._ask("POST", "runs/update", {"run_id": run, "status": status, **ended})

    def remove(self, run: str) -> None:
        """Delete a run."""
        self._ask("POST", "runs/delete", {"run_id": run})

    def log(
        self, run: str, metrics: Mapping[str, float], parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Add metrics, parameters and tags to a run."""
        now = _now()
        numbers = [{"key": _name(key), "value": value, "timestamp": now, "step": 0} for key, value in metrics.items()]
        given: dict[str, list[Any]] = {
            "metrics": numbers,
            "params": _pairs("params", parameters),
            "tags": _pairs("tags", tags),
        }
        for begin in range(0, max(map(len, given.values())), _AT_ONCE):
            batch = {kind: items[begin : begin + _AT_ONCE] for kind, items in given.items()}
            self._ask("POST", "runs/log-batch", {"run_id": run, **batch})

    def page(self, run: MlflowRun) -> str:
        """Return the address of a run's page."""
        return f"{self.address}/#/experiments/{run.experiment}/runs/{run.id}"

    def close(self) -> None:
        """Close what is open; another request opens it again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, method: str, path: str, given: Mapping[str, Any], *, absent: bool = False) -> dict[str, Any]:
        """Return an answer; empty where what is asked for is not there, or there already, and that may be."""
        import httpx  # noqa: PLC0415 -- a quarter of a second, for those who track

        where = f"{self.address}/api/2.0/mlflow/{path}"
        sent: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
        try:
            if self._client is None:
                self._client = self._opened()
            answer = self._client.request(method, where, **sent)
            body = answer.json() if answer.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            message = f"it does not answer as an MLflow server does: {str(error) or type(error).__name__}"
            raise TrackingError(message) from error
        if answer.status_code < _REFUSED and isinstance(body, dict):
            return body
        code = body.get("error_code", "") if isinstance(body, dict) else ""
        if absent and code in {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}:
            return {}
        words = body.get("message", code) if isinstance(body, dict) else ""
        message = f"it refuses {path} with status {answer.status_code}{words and f': {words}'}"
        raise TrackingError(message)

    def _opened(self) -> httpx.Client:
        import httpx  # noqa: PLC0415 -- see above

        headers, auth = {}, None
        if self._login and self._login.username:
            auth = httpx.BasicAuth(self._login.username, self._login.password)
        elif self._login and self._login.password:
            headers["Authorization"] = f"Bearer {self._login.password}"
        return httpx.Client(
            timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
            headers=headers,
            auth=auth,
            trust_env=not is_loopback(urlsplit(self.address).netloc),  # no proxy leads to this machine
        )


def _pairs(kind: str, given: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": _name(key), "value": value[: _LONGEST[kind]]} for key, value in given.items()]


def _name(given: str) -> str:
    """Return a name that MLflow takes."""
    return _NO_NAME.sub("_", given)[:250]


def _now() -> int:
    return time.time_ns() // 1_000_000
