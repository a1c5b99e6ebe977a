"""A DAG as one may have it already, with three tasks that reuse their results.

The ordinary tasks (`export`, `revenue`, `choose`, `praise`, `warn`, `tell`) are plain Airflow and run each time. Those between them
are ours: each looks for an earlier run of the same code, inputs and parameters, and takes its outputs from there. They
need no set-up: outputs are kept below `$AIRFLOW_HOME/mlpipe`.

Data goes through XCom as ever. An input may be what any task returned (a path or URL), or an output of ours,
`other.output["name"]`; either also makes the dependency. What our tasks return can be read by any task:
`{"uri": ..., "digest": ..., "size": ..., "files": ..., "kind": ...}`.
"""

from __future__ import annotations

import csv
import os
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, task

from airflow_mlpipe.operators import CommandOperator, DataTransferOperator, PythonScriptOperator

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser() / "existing_dag"


@dag(
    schedule="@daily",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    tags=["example"],
    params={
        "orders": Param(500, type="integer", minimum=1, maximum=100_000, description="How many orders there are."),
        "best": Param(3, type="integer", minimum=1, maximum=10, description="How many customers to report."),
    },
)
def existing_dag() -> None:
    """Export orders, sum them up by customer, report the best."""
    # Ordinary: it exports anew each time. What it writes is the same as long as the number of orders is.
    export = BashOperator(
        task_id="export",
        bash_command="""
            mkdir -p "$FOLDER" && awk -v orders="$ORDERS" 'BEGIN {
              print "order,customer,amount"
              for (n = 1; n <= orders; n++) printf "%d,customer-%02d,%d.%02d\\n", n, n * n % 23, n * 37 % 400, n % 100
            }' > "$FOLDER/orders.csv" && echo "$FOLDER/orders.csv"
        """,
        env={"FOLDER": str(FOLDER), "ORDERS": "{{ params.orders }}"},
        append_env=True,
    )

    # Ours: copied, unless source and destination are as the last copy left them.
    transfer = DataTransferOperator(
        task_id="transfer", source=export.output, destination=str(FOLDER / "raw" / "orders.csv")
    )

    # Ours: runs if the orders or the script have changed.
    totals = PythonScriptOperator(
        task_id="totals",
        source_directory="existing/src",
        script_name="totals.py",
        arguments=["--orders", "${{ inputs.orders }}", "--totals", "${{ outputs.totals }}"],
        inputs={"orders": transfer.output["data"]},
        outputs=["totals"],
    )

    # Ours: runs if the totals or the number asked for have changed.
    best = CommandOperator(
        task_id="best",
        command="sort -t, -k2,2nr ${{ inputs.totals }} | head -n ${{ parameters.best }} > ${{ outputs.best }}",
        inputs={"totals": totals.output["totals"]},
        outputs=["best"],
    )

    # Ordinary again: a task that reads the data, a branch on what it found, and a task after the branch.
    @task
    def revenue(table: dict[str, str]) -> float:
        path = Path(unquote(urlsplit(table["uri"]).path))
        with path.open(newline="") as file:
            return sum(float(amount) for _, amount in csv.reader(file))

    @task.branch
    def choose(amount: float) -> str:
        return "praise" if amount > 10_000 else "warn"  # noqa: PLR2004

    @task
    def praise(amount: float) -> str:
        return f"The best customers brought {amount:.2f}."

    @task
    def warn(amount: float) -> str:
        return f"The best customers brought {amount:.2f} only."

    tell = BashOperator(
        task_id="tell",
        bash_command='echo "The report is at $REPORT"',
        env={"REPORT": "{{ ti.xcom_pull(task_ids='best', key='best')['uri'] }}"},
        trigger_rule="none_failed_min_one_success",
    )

    amount = revenue(best.output["best"])
    choose(amount) >> [praise(amount), warn(amount)] >> tell


existing_dag()
