from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from airflow_mlpipe import airflow_home
from airflow_mlpipe.airflow_home import ensure_database, free_port
from airflow_mlpipe.exceptions import AirflowError
from airflow_mlpipe.up import COMPONENTS, LocalAirflow

# `python -m airflow` runs this where it lies in the working directory, the home: every component in a few lines. The
# real ones are started by tests/integration/scheduler/test_harness.py.
FAKE_AIRFLOW = """
import http.server, json, os, sys, time
from datetime import datetime, timezone

name = sys.argv[1]
print(name, "starts", flush=True)
if os.path.exists(f"{name}.broken"):
    sys.exit("no space left on device")
open(f"{name}.pid", "w").write(str(os.getpid()) + "\\n")

def now():
    return datetime.now(timezone.utc).isoformat()

def beat(name):
    pid = name.replace("_", "-") + ".pid"
    return now() if os.path.exists(pid) else None

def answer(path):
    if path.startswith("/auth/token"):
        return {"access_token": "secret"}
    if path.startswith("/api/v2/monitor/health"):
        return {n: {f"latest_{n}_heartbeat": beat(n)} for n in ("scheduler", "dag_processor", "triggerer")}
    if path.startswith("/execution/health"):
        return {"status": "healthy"}
    if path.startswith("/api/v2/dags"):
        offset = int(path.rpartition("=")[2])
        dags = [{"dag_id": f"d{i}", "relative_fileloc": "one.py", "last_parsed_time": now()} for i in range(150)]
        return {"dags": dags[offset : offset + 100], "total_entries": 150}
    if path.startswith("/api/v2/importErrors"):
        error = {"filename": "two.py", "timestamp": now(), "stack_trace": "Traceback\\nValueError: two"}
        return {"import_errors": [error], "total_entries": 1}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = answer(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

if name == "api-server":
    address = ("127.0.0.1", int(os.environ["AIRFLOW__API__PORT"]))
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
time.sleep(1000)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a stand-in for Airflow, and a template so that no database is migrated."""
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(airflow_home, "_migrate", lambda path: sqlite3.connect(path).close() or path.touch())
        ensure_database(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "airflow.py").write_text(FAKE_AIRFLOW)
    return home


@pytest.fixture
def dags(tmp_path):
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "one.py").write_text("from airflow.sdk import DAG")
    (folder / "two.py").write_text("from airflow.sdk import DAG")
    (folder / "helper.py").write_text("import math")
    return folder


def processes(home):
    """Return the components of a home that are alive."""
    found = {}
    for name in COMPONENTS:
        with suppress(FileNotFoundError, ProcessLookupError):
            process = (home / f"{name}.pid").read_text().strip()
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z":
                found[name] = int(process)
    return found


def wait_for(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_all_components_run_until_it_is_stopped(home, dags):
    with LocalAirflow(home, dags) as airflow:
        assert sorted(processes(home)) == sorted(COMPONENTS)
        airflow.check()
    assert processes(home) == {}


def test_lists_are_read_to_their_last_page(home, dags):
    with LocalAirflow(home, dags) as airflow:
        assert len(list(airflow.pages("/dags", "dags"))) == 150


def test_every_dag_file_is_either_listed_or_refused_before_it_is_up(home, dags):
    with LocalAirflow(home, dags) as airflow:
        assert airflow.unparsed() == []
        (dags / "three.py").write_text("from airflow.sdk import DAG")
        assert airflow.unparsed() == ["three.py"]


def test_a_refused_request_says_what_was_refused(home, dags):
    with LocalAirflow(home, dags) as airflow, pytest.raises(AirflowError, match="GET /api/v2/nothing was refused") as e:
        airflow.get("/nothing")
    assert e.value.status == 404


def test_the_death_of_a_component_ends_the_others_and_names_it(home, dags):
    with LocalAirflow(home, dags) as airflow:
        os.kill(processes(home)["scheduler"], signal.SIGKILL)
        with pytest.raises(AirflowError, match=r"scheduler ended with code -9[\s\S]*scheduler starts"):
            airflow.wait()
        assert processes(home) == {}


def test_a_component_that_cannot_start_is_named_with_its_last_words(home, dags):
    (home / "triggerer.broken").touch()
    with pytest.raises(AirflowError, match=r"triggerer ended with code 1[\s\S]*no space left on device"):
        LocalAirflow(home, dags).start()
    assert processes(home) == {}


def test_a_home_serves_one_airflow_at_a_time(home, dags):
    with LocalAirflow(home, dags), pytest.raises(AirflowError, match="already runs in"):
        LocalAirflow(home, dags).start()
    with LocalAirflow(home, dags):
        pass


def test_a_port_that_was_asked_for_and_is_taken_is_refused(home, dags):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AirflowError, match=f"port {port} .* is in use"):
            LocalAirflow(home, dags, port).start()


def test_a_home_whose_port_is_taken_gets_another(home, dags):
    with LocalAirflow(home, dags) as airflow:
        first = airflow.port
    with closing(socket.create_server(("127.0.0.1", first))), LocalAirflow(home, dags) as airflow:
        assert airflow.port != first


def test_a_folder_that_is_not_there_is_refused(home, tmp_path):
    with pytest.raises(AirflowError, match="no folder"):
        LocalAirflow(home, tmp_path / "absent").start()


def test_an_airflow_that_was_not_started_says_so(home, dags):
    with pytest.raises(AirflowError, match="not running"):
        LocalAirflow(home, dags).check()


class Terminal:
    """`up` in a process of its own, its output read line by line."""

    def __init__(self, home, dags):
        code = "import sys; from pathlib import Path; from airflow_mlpipe.up import up;"
        code += "sys.exit(up(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))"
        arguments = [str(dags), str(home), str(free_port())]
        self.process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
        self.lines = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def end(self):
        self.thread.join(30)
        return self.process.wait(30)


@pytest.fixture
def terminal(home, dags):
    terminal = Terminal(home, dags)
    wait_for(lambda: any("Ctrl-C" in line for line in terminal.lines))
    yield terminal
    terminal.process.kill()
    terminal.end()
    wait_for(lambda: not processes(home))


def test_up_says_where_it_is_who_may_enter_and_what_is_wrong(terminal):
    text = "\n".join(terminal.lines)
    assert "Airflow runs at http://127.0.0.1:" in text
    assert "user: admin" in text
    assert "150 DAGs" in text
    assert "cannot import two.py: ValueError: two" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_cleanly_when_asked(terminal, home, number):
    terminal.process.send_signal(number)
    assert terminal.end() == 0
    assert processes(home) == {}


def test_nothing_stays_behind_when_up_is_killed(terminal, home):
    terminal.process.kill()
    wait_for(lambda: not processes(home))


def test_up_fails_when_a_component_dies(terminal, home):
    os.kill(processes(home)["dag-processor"], signal.SIGTERM)
    assert terminal.end() == 1
    assert processes(home) == {}
