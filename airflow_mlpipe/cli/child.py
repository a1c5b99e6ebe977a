"""Runs one DAG run to its end in a process of its own: ``python -m airflow_mlpipe.cli.child ORDER``.

The order is JSON: ``dag_file``, ``run_after`` and ``logical_date`` (ISO 8601), ``conf``, ``parallel`` and ``events``, a
file that receives one line of JSON for each thing that happens. The exit code is 0 if the run succeeded.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import AirflowError
from airflow_mlpipe.quick_start import quicken

if TYPE_CHECKING:
    from types import FrameType

API_SECONDS = 120.0
INTERRUPTED = 130


@dataclass(frozen=True)
class Order:
    """What to run. ``parallel`` runs steps side by side, which needs the execution API of an API server."""

    dag_file: str
    run_after: str
    logical_date: str
    events: str
    conf: dict[str, Any] = field(default_factory=dict)
    parallel: bool = False

    def to_json(self) -> str:
        """Return the order as the argument of this program."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Return the order that `to_json` wrote."""
        return cls(**json.loads(text))


def main(arguments: list[str]) -> int:
    """Run the DAG of the order; return the exit code."""
    order = Order.from_json(arguments[0])
    signal.signal(signal.SIGTERM, _stop)
    quicken(in_process=not order.parallel)

    from airflow.sdk.listener import get_listener_manager  # noqa: PLC0415 -- Airflow, in this process only

    from airflow_mlpipe.cli.listener import Listener, Stopper  # noqa: PLC0415

    listener = Listener(Path(order.events))
    get_listener_manager().add_listener(listener)
    if not order.parallel:
        get_listener_manager().add_listener(Stopper(_stop))
    dag = runpy.run_path(order.dag_file)["dag"]
    dag.fileloc = order.dag_file
    if order.parallel:
        _await_api()
    run = dag.test(
        run_after=datetime.fromisoformat(order.run_after),
        logical_date=datetime.fromisoformat(order.logical_date),
        run_conf=order.conf,
        use_executor=order.parallel,
    )
    listener.write({"run": run.run_id, "state": str(run.state)})
    return 0 if run.state == "success" else 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End the run; if it goes on nevertheless, the next signal ends it.

    The executor's workers would begin the steps that are queued. The tasks at hand outlive them, and are told to end by
    whoever keeps this process.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for worker in multiprocessing.active_children():
        worker.kill()
    raise KeyboardInterrupt


def _await_api() -> None:
    """Wait until the execution API answers; tasks in processes of their own talk to it."""
    url = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].rstrip("/") + "/health/ping"
    end = time.monotonic() + API_SECONDS
    while not _answers(url):
        if time.monotonic() > end:
            message = f"the execution API at {url} did not answer within {API_SECONDS:.0f} seconds"
            raise AirflowError(message)
        time.sleep(0.1)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    try:
        with opener.open(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is said and done; taking Airflow down in order would cost seconds
