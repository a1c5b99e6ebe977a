from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from airflow_mlpipe.cli.listener import Stopper

CODE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from airflow.sdk.listener import get_listener_manager
from airflow_mlpipe.cli.listener import Listener
get_listener_manager().add_listener(Listener(Path(sys.argv[1])))
hook = get_listener_manager().hook
task = SimpleNamespace(task_id="train")
hook.on_task_instance_running(previous_state=None, task_instance=task)
hook.on_task_instance_failed(previous_state=None, task_instance=task, error=ValueError("no disk"))
hook.on_task_instance_failed(previous_state=None, task_instance=task, error=None)
hook.on_task_instance_skipped(previous_state=None, task_instance=task)
hook.on_task_instance_success(previous_state=None, task_instance=task)
"""


def test_airflow_tells_it_everything_and_each_thing_is_a_line(tmp_path):
    settings = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    subprocess.run([sys.executable, "-c", CODE, str(tmp_path / "events")], check=True, env=settings)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [event["state"] for event in events] == ["running", "failed", "failed", "skipped", "success"]
    assert {event["task"] for event in events} == {"train"}
    assert events[1]["error"] == "no disk"
    assert events[2]["error"]


@pytest.fixture
def heard():
    """What was told to end, one after the other; Airflow's handler, which ends the task, is in place."""
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("task"))
    yield told
    signal.signal(signal.SIGTERM, before)


def test_a_signal_ends_the_task_at_hand_and_then_the_run(heard):
    stopper = Stopper(lambda *_: heard.append("run"))
    stopper.on_task_instance_running()
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["task"]
    stopper.before_stopping()
    assert heard == ["task", "run"]


def test_between_two_tasks_a_signal_ends_the_run_at_once(heard):
    stopper = Stopper(lambda *_: heard.append("run"))
    stopper.on_task_instance_running()
    stopper.before_stopping()
    assert heard == []
    signal.raise_signal(signal.SIGTERM)
    assert heard == ["run"]
