"""A step with mini-batches on a real scheduler: which of them run, the first time and again."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.scheduler, pytest.mark.timeout(600)]

DEFINITION = """
name: dealt
steps:
  shrink:
    kind: command
    command: |
      mkdir -p ${{ outputs.thumbs }}
      for image in ${{ inputs.images }}/*; do
        tr a-z A-Z < $image > ${{ outputs.thumbs }}/$(basename $image)
      done
    inputs: {images: images}
    outputs: [thumbs]
    parallel: {over: "${{ inputs.images }}", mini_batch_size: 2, max_concurrent: 3}
"""

LOADER = """
from airflow_mlpipe.dag_factory import load_pipelines

load_pipelines(globals(), "dealt_project")  # a step with mini-batches is three tasks
"""


def test_new_files_cost_only_themselves(airflow):
    for name in "abcde":
        airflow.write(f"dealt_project/images/{name}", f"{name} dealt")
    airflow.write("dealt_project/dealt.yaml", DEFINITION)
    airflow.write_dag("dealt", LOADER, timeout=120)

    def run():
        run_id, state = airflow.run("dealt", timeout=240)
        states = airflow.task_states("dealt", run_id)
        assert state == "success", states
        return run_id, states

    done = {"plan": "success", "shrink.plan": "success", "shrink": "success"}
    _, states = run()
    assert states == {**done, **{f"shrink.batch[{number}]": "success" for number in range(3)}}

    _, states = run()
    assert states == {"plan": "success", **dict.fromkeys(("shrink.plan", "shrink.batch", "shrink"), "skipped")}

    for name in ("aa", "f", "g"):
        airflow.write(f"dealt_project/images/{name}", f"{name} dealt")
    third, states = run()
    assert states == {**done, "shrink.batch[0]": "success", "shrink.batch[1]": "success"}
    assert [row["files"] for row in airflow.xcom("dealt", third, "shrink", "batches")] == [2, 2, 1, 2, 1]
    thumbs = Path(urlsplit(airflow.xcom("dealt", third, "shrink", "thumbs")["uri"]).path)
    assert {path.name: path.read_text() for path in thumbs.iterdir()} == {
        name: f"{name} dealt".upper() for name in ("a", "aa", "b", "c", "d", "e", "f", "g")
    }
