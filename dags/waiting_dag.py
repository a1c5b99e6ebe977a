"""A DAG that waits for what the pipeline `digits` makes, in another DAG, and works with it.

`digits` runs once a week, this DAG once a day. A run of `digits` that found nothing to do confirms what an earlier one
made, so `registered` is satisfied by it as well; where no run of the last week has, it waits. It holds no worker slot
meanwhile, and its log says what it saw last. `scores` does not ask when a run was, but how good it was.

What sensors return is what our operators return, so it is an input like any other: `card` runs only when it has changed.
Which run made or confirmed it lies in the XCom `confirmed-by`. Where nothing comes for twelve hours `registered` is
skipped, and what comes after it with it; without `soft_fail` it would fail.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import Param, dag, task

from airflow_mlpipe.operators import CommandOperator
from airflow_mlpipe.sensors import StepOutputSensor


@dag(
    schedule="@daily",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["example"],
    params={"accuracy": Param(0.9, type="number", minimum=0, maximum=1, description="How good a model must be.")},
)
def waiting_dag() -> None:
    """Take the newest digits model of the week, and the scores of the newest that was good enough."""
    registered = StepOutputSensor(
        task_id="registered",
        pipeline="digits",
        step="register",
        output="registered",
        after="{{ dag_run.run_after - macros.timedelta(days=7) }}",
        poke_interval=30,
        timeout=timedelta(hours=12),
        soft_fail=True,
    )
    scores = StepOutputSensor(
        task_id="scores",
        pipeline="digits",
        step="evaluate",
        output="scores",
        where="metrics.accuracy >= {{ params.accuracy }}",
        poke_interval=30,
        timeout=timedelta(hours=12),
        soft_fail=True,
    )
    card = CommandOperator(
        task_id="card",
        command="cat ${{ inputs.registered }}/card.json ${{ inputs.scores }} > ${{ outputs.card }}",
        inputs={"registered": registered.output["registered"], "scores": scores.output["scores"]},
        outputs=["card"],
    )

    @task
    def tell(card: dict[str, str], by: dict[str, str]) -> str:
        return f"Run {by['run']} of {by['pipeline']} {by['outcome']} what {card['uri']} is about."

    tell(card.output["card"], registered.output["confirmed-by"])


waiting_dag()
