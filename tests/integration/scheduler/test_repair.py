"""A loss found while a run is under way, on a real scheduler."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.scheduler.project import Project

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(300)]


def test_rule_7_a_cleared_step_whose_input_is_lost_runs_the_producer_again_in_its_own_task(airflow):
    project = Project.create(airflow, "lost")
    run_id, _ = project.run()
    for step, output in (("prepare", "clean"), ("train", "model")):
        Path(urlsplit(airflow.xcom("lost", run_id, step, output)["uri"]).path).unlink()
    airflow.clear("lost", run_id, ["train"])
    assert airflow.wait("lost", run_id) == "success"
    log = airflow.log("lost", run_id, "train", 2)
    assert f"output clean of lost / {run_id} / prepare was lost: it is gone; it is made again" in log
    assert "ran: output model of the earlier run: it is gone" in log
    model = Path(urlsplit(airflow.xcom("lost", run_id, "train", "model")["uri"]).path)
    assert model.read_text() == "lost prepare 1.0 train 1.0\n"
    assert project.run()[1] == dict.fromkeys(("prepare", "train", "report"), "skipped") | {"plan": "success"}
