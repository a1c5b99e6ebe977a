"""A whole Airflow on this machine: API server, scheduler, DAG processor and triggerer, started and stopped as one.

`up` is for people: it says where the Airflow is and stays until Ctrl-C. `LocalAirflow` is for programs and tests::

    with LocalAirflow(home, dags_folder) as airflow:
        airflow.post("/dags/churn/dagRuns", {"logical_date": None})

Nothing stays behind, whichever way it ends: the four belong to a keeper process, which ends them all when one of
them ends, when it is told to, or when the process that started it is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_mlpipe.airflow_home import USER, ensure_database, free_port, make_home, password, process_environment
from airflow_mlpipe.exceptions import AirflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from typing_extensions import Self

COMPONENTS: dict[str, list[str]] = {
    "api-server": ["api-server"],  # first, so that it ends last: the others report to it
    # Logs are read from the shared folder, so nobody needs to serve them.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}

START_SECONDS = 180.0
PARSE_SECONDS = 60.0
GRACE_SECONDS = 3.0
"""How long components may take to end by themselves. The scheduler would wait for running tasks without limit, and the
triggerer at times waits 10 seconds for nothing."""

_TAIL = 15
_PAGE = 100


def up(dags_folder: Path, home: Path, port: int | None = None) -> int:
    """Run an Airflow over a folder of DAGs until Ctrl-C or SIGTERM; return the exit code.

    :raises AirflowError: if it cannot be started, or if one of its components ends.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    airflow = LocalAirflow(home, dags_folder, port)
    _say(f"Starting Airflow in {airflow.home} ...")
    try:
        with airflow:
            _welcome(airflow)
            airflow.wait()
    except KeyboardInterrupt:
        _say("Airflow has stopped.")
    return 0


class LocalAirflow:
    """An Airflow in a private home, as a context manager.

    Without ``port`` it takes the home's own if that is free, else any. ``settings`` adds or replaces Airflow settings,
    named ``section.key``. Start it in a thread that lives as long as it does.
    """

    def __init__(
        self, home: Path, dags_folder: Path, port: int | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.home = Path(home).absolute()
        self.dags_folder = Path(dags_folder).absolute()
        self.port = port
        self.settings = dict(settings or {})
        self.variables: dict[str, str] = {}
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._token = ""
        self._started = datetime.now(timezone.utc)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The address of the UI and the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def login(self) -> tuple[str, str]:
        """The user's name and password."""
        return USER, password(self.home)

    def start(self) -> None:
        """Start the components, and return when all are healthy and the DAGs of the folder are listed.

        :raises AirflowError: if the home is in use, the port is taken, or a component does not come up.
        """
        if not self.dags_folder.is_dir():
            message = f"there is no folder {self.dags_folder} to take DAGs from; make it, or name another"
            raise AirflowError(message)
        self._started = datetime.now(timezone.utc)
        try:
            self._prepare()
            self._launch()
            self._wait_until("all components are healthy", self._healthy, START_SECONDS)
            self._wait_until("the DAG files are parsed", lambda: not self.unparsed(), PARSE_SECONDS, fail=False)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all components and everything they started; at most some ten seconds."""
        if self._keeper:
            self._keeper.communicate()  # closes its input, which is the request to end
        if self._lock:
            self._lock.close()
        self._keeper, self._lock, self._token = None, None, ""

    def wait(self) -> None:
        """Wait until a component ends.

        :raises AirflowError: always, saying which one, and its last log lines.
        """
        while True:
            self.check()
            time.sleep(0.5)

    def check(self) -> None:
        """Make sure that all components run.

        :raises AirflowError: if one has ended, saying which one, and its last log lines.
        """
        if self._keeper is None:
            message = "this Airflow is not running; call start() first"
            raise AirflowError(message)
        if self._keeper.poll() is not None:
            raise AirflowError(self._obituary())

    def unparsed(self) -> list[str]:
        """Return the DAG files of the folder that have not been parsed since the start, as relative paths."""
        listed = [(dag["relative_fileloc"], dag["last_parsed_time"]) for dag in self.pages("/dags", "dags")]
        refused = [(error["filename"], error["timestamp"]) for error in self.pages("/importErrors", "import_errors")]
        parsed = {name for name, when in (*listed, *refused) if when and _moment(when) >= self._started}
        return sorted(set(_dag_files(self.dags_folder)) - parsed)

    def token(self) -> str:
        """Return a token for the API, as the header ``Authorization: Bearer <token>`` takes it."""
        if not self._token:
            user, secret = self.login
            answer = self._request("POST", "/auth/token", {"username": user, "password": secret}, {})
            self._token = str(answer["access_token"])
        return self._token

    def get(self, path: str) -> Any:  # noqa: ANN401 - what the API answers
        """Return what the API answers for a path below ``/api/v2``.

        :raises AirflowError: if it refuses, with its ``status`` and words.
        """
        return self._call("GET", path, None)

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - what the API answers
        """Post JSON to a path below ``/api/v2``; see `get`."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: object) -> Any:  # noqa: ANN401 - what the API answers
        """Patch with JSON at a path below ``/api/v2``; see `get`."""
        return self._call("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Delete what is at a path below ``/api/v2``; see `get`."""
        self._call("DELETE", path, None)

    def pages(self, path: str, key: str) -> Iterator[Any]:
        """Yield every entry of a list that the API answers in pages."""
        offset, total = 0, 1
        while offset < total:
            mark = "&" if "?" in path else "?"
            page = self.get(f"{path}{mark}limit={_PAGE}&offset={offset}")
            yield from page[key]
            offset, total = offset + _PAGE, int(page["total_entries"])

    def _call(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401
        return self._request(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self.token()}"})

    def _request(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Any:  # noqa: ANN401
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.address + path, data, {"Content-Type": "application/json", **headers}, method=method
        )
        try:
            with _OPENER.open(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            message = f"{method} {path} was refused ({error.code}): {error.read().decode(errors='replace')[:2000]}"
            raise AirflowError(message, error.code) from None
        return json.loads(content) if content else None

    def _prepare(self) -> None:
        """Make the home ours, with a port that is free."""
        self.variables = make_home(self.home, self.dags_folder, port=self.port, extra=self.settings)
        self._lock = (self.home / ".up.lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"an Airflow already runs in {self.home}; stop it first, or use another home"
            raise AirflowError(message) from None
        port = int(self.variables["AIRFLOW__API__PORT"])
        if not _is_free(port):
            if self.port is not None:
                message = f"port {port} of 127.0.0.1 is in use; name another, or none to have a free one chosen"
                raise AirflowError(message)
            port = free_port()
            self.variables = make_home(self.home, self.dags_folder, port=port, extra=self.settings)
        self.port = port
        ensure_database(self.home)

    def _launch(self) -> None:
        logs = self.home / "logs"
        logs.mkdir(exist_ok=True)
        services = {
            name: {"command": [sys.executable, "-m", "airflow", *arguments], "log": str(logs / f"{name}.log")}
            for name, arguments in COMPONENTS.items()
        }
        lock = self._lock.fileno() if self._lock else -1
        order = json.dumps({"services": services, "grace": GRACE_SECONDS})
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "airflow_mlpipe.keeper", order],
            stdin=subprocess.PIPE,  # closed by us, or by the system when we are gone
            stdout=subprocess.PIPE,
            env=process_environment(self.variables),
            cwd=self.home,
            start_new_session=True,
            pass_fds=[lock],  # the home is in use until the keeper has ended, whatever becomes of us
        )

    def _healthy(self) -> bool:
        """Return whether every component has shown a sign of life since the start."""
        try:
            health = self._request("GET", "/api/v2/monitor/health", None, {})
            # Its first request costs the API for tasks some 3 seconds: better now than in the first task.
            self._request("GET", "/execution/health", None, {})
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        beats = {
            name: health[name].get(f"latest_{name}_heartbeat") for name in ("scheduler", "dag_processor", "triggerer")
        }
        return all(beat and _moment(beat) >= self._started for beat in beats.values())

    def _wait_until(self, what: str, done: Callable[[], bool], seconds: float, *, fail: bool = True) -> None:
        end = time.monotonic() + seconds
        while True:
            self.check()
            if done():
                return
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        if fail:
            message = f"waited {seconds:.0f} seconds in vain until {what}; the logs are in {self.home / 'logs'}"
            raise AirflowError(message)

    def _obituary(self) -> str:
        """Say which component ended, how, and what it said last."""
        keeper = self._keeper
        said = keeper.stdout.read() if keeper and keeper.stdout else b""
        name = json.loads(said)["ended"] if said.strip() else None
        if name is None:
            return "Airflow was stopped from outside"
        log = self.home / "logs" / f"{name}.log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
        code = json.loads(said)["code"]
        return f"Airflow's {name} ended with code {code}, so the others were stopped; the end of {log}:\n{tail}"


# Proxies of the environment are not for loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _dag_files(folder: Path) -> Iterator[str]:
    """Yield the files that Airflow will take for DAG files: Python that mentions both words."""
    for path in folder.rglob("*.py"):
        content = path.read_bytes().lower()
        if b"dag" in content and b"airflow" in content:
            yield path.relative_to(folder).as_posix()


def _welcome(airflow: LocalAirflow) -> None:
    user, secret = airflow.login
    dags = sorted(dag["dag_id"] for dag in airflow.pages("/dags", "dags"))
    _say(f"Airflow runs at {airflow.address}   user: {user}   password: {secret}")
    _say(f"{len(dags)} DAGs from {airflow.dags_folder}: {', '.join(dags[:10])}{' ...' if len(dags) > 10 else ''}")  # noqa: PLR2004
    for error in airflow.pages("/importErrors", "import_errors"):
        _say(f"cannot import {error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}")
    for name in airflow.unparsed():
        _say(f"not parsed yet: {name}")
    _say("Stop it with Ctrl-C.")


def _say(text: str) -> None:
    sys.stdout.write(text + os.linesep)
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
