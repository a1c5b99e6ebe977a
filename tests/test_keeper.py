from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


class Keeper:
    """A keeper over services given as Python code, and what they wrote to files of their folder."""

    def __init__(self, folder, grace=5.0, **services):
        self.folder = folder
        order = {
            "services": {
                name: {"command": [sys.executable, "-c", code], "log": str(folder / f"{name}.log")}
                for name, code in services.items()
            },
            "grace": grace,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "airflow_mlpipe.keeper", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
        )

    def written(self, name):
        path = self.folder / name
        wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
        return path.read_text().strip()

    def end(self):
        out, _ = self.process.communicate(timeout=30)
        return json.loads(out)


def wait_for(true, seconds=15):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


PID = "import os, signal, subprocess, sys, time; open('{0}', 'w').write(str(os.getpid()) + chr(10));"
SLEEP = PID + "time.sleep(100)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
GRANDCHILD = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {1!r}], start_new_session=True);" + SLEEP


def test_closing_its_input_ends_all_services(tmp_path):
    keeper = Keeper(tmp_path, a=SLEEP.format("a"), b=SLEEP.format("b"))
    services = [int(keeper.written("a")), int(keeper.written("b"))]
    assert keeper.end() == {"ended": None, "code": None}
    assert [alive(service) for service in services] == [False, False]


def test_the_end_of_one_service_ends_the_others_and_is_reported(tmp_path):
    keeper = Keeper(tmp_path, a=SLEEP.format("a"), b=PID.format("b") + "time.sleep(1); print('no space'); sys.exit(7)")
    other = int(keeper.written("a"))
    keeper.process.wait(30)
    assert keeper.end() == {"ended": "b", "code": 7}
    assert not alive(other)
    assert (tmp_path / "b.log").read_text() == "no space\n"


def test_a_service_killed_by_a_signal_is_reported_as_such(tmp_path):
    keeper = Keeper(tmp_path, a=SLEEP.format("a"))
    os.kill(int(keeper.written("a")), signal.SIGKILL)
    keeper.process.wait(30)
    assert keeper.end() == {"ended": "a", "code": -9}


def test_what_a_service_left_in_a_session_of_its_own_is_ended_too(tmp_path):
    keeper = Keeper(tmp_path, grace=0.5, a=GRANDCHILD.format("a", SLEEP.format("grandchild")))
    grandchild = int(keeper.written("grandchild"))
    keeper.written("a")
    keeper.end()
    assert not alive(grandchild)


def test_who_ignores_the_request_to_end_is_killed(tmp_path):
    keeper = Keeper(tmp_path, grace=0.2, a=STUBBORN.format("a"))
    service = int(keeper.written("a"))
    keeper.end()
    assert not alive(service)


def test_the_first_service_is_asked_to_end_when_the_others_have_ended(tmp_path):
    slow = PID + "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print(time.time()), sys.exit()));"
    keeper = Keeper(tmp_path, **{n: (slow + "time.sleep(100)").format(n) for n in ("first", "second", "third")})
    for name in ("first", "second", "third"):
        keeper.written(name)
    time.sleep(0.3)
    keeper.end()
    first, second, third = (float((tmp_path / f"{n}.log").read_text()) for n in ("first", "second", "third"))
    assert first > max(second, third) + 0.4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_services(tmp_path, number):
    keeper = Keeper(tmp_path, a=SLEEP.format("a"))
    service = int(keeper.written("a"))
    keeper.process.send_signal(number)
    keeper.process.wait(30)
    assert not alive(service)


def test_services_end_when_the_keeper_is_killed(tmp_path):
    keeper = Keeper(tmp_path, a=SLEEP.format("a"))
    service = int(keeper.written("a"))
    keeper.process.kill()
    wait_for(lambda: not alive(service))
    keeper.process.communicate(timeout=30)
