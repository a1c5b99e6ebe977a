from __future__ import annotations

import json
import subprocess
import sys

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
