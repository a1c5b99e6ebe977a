"""A DAG that keeps the output store from growing for ever: once a day it does what `mlpipe cache prune` does.

As it is it only says what would go: the log of the task `prune` lists it. When you agree, set `dry_run` to false here.
What goes by the policy is voided in one run and removed from the disk by a later one, at least `grace` afterwards, so
that a pipeline that had just found a result can still read it. Never removed is what a run that is under way, or one of
the last day, refers to, and what is pinned (`mlpipe cache pin`).

It works on the store of the workspace that Airflow's setting `[mlpipe] workspace` or `MLPIPE_WORKSPACE` names, else on
the one below `$AIRFLOW_HOME/mlpipe`.
"""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path

from airflow.sdk import Param, dag, task

from airflow_mlpipe.operators.here import open_site, workspace_at
from airflow_mlpipe.resolving.limits import read_duration, read_size
from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner

POLICY = {
    "unused_for": Param("30 days", type=["null", "string"], description="Records no run has used for this long go."),
    "older_than": Param(None, type=["null", "string"], description="Only those that are at least this old."),
    "keep_last": Param(3, type=["null", "integer"], minimum=0, description="The newest records of each step stay."),
    "max_size": Param(None, type=["null", "string"], description="What outputs may take up: 500GB, say."),
    "runs_older_than": Param(
        "365 days", type=["null", "string"], description="Plans, notes, journal of older runs go."
    ),
    "evict": Param(False, type="boolean", description="Only outputs go; the records stay and are still recognised."),
    "grace": Param("1 day", type="string", description="How long what goes stays on the disk."),
    "dry_run": Param(True, type="boolean", description="Only say what would go."),
}


@dag(
    schedule="@daily",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["example"],
    params=POLICY,
)
def cache_maintenance() -> None:
    """Remove from the output store what the policy names and nobody refers to."""

    @task
    def prune(**context: object) -> dict[str, int]:
        given = context["params"]
        policy = Policy(
            older_than=read_duration("older_than", given["older_than"]) if given["older_than"] else None,
            unused_for=read_duration("unused_for", given["unused_for"]) if given["unused_for"] else None,
            max_size=read_size("max_size", given["max_size"]) if given["max_size"] else None,
            keep_last=given["keep_last"],
            evict=given["evict"],
            runs_older_than=read_duration("runs_older_than", given["runs_older_than"])
            if given["runs_older_than"]
            else None,
        )
        log = logging.getLogger("airflow.task")
        store = open_site(workspace_at(None, Path(__file__).parent)).store
        pruner = Pruner(store, policy, Guard(grace=read_duration("grace", given["grace"])), say=log.info)
        pruning = pruner.look() if given["dry_run"] else pruner.prune()
        for line in pruning.lines():
            log.info("%s", line)
        return pruning.counts()

    prune()


cache_maintenance()
