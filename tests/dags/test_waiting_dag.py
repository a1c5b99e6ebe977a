from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.store import runs
from tests.journaled import Journaled

NOW = datetime.now(timezone.utc)


@pytest.fixture
def digits(examples, tmp_path, monkeypatch):
    """Makes what runs of `digits` leave in the store of that Airflow."""
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    return Journaled(Site.open(Workspace(), default_store=examples.home / "mlpipe"), tmp_path, NOW)


def leave(digits, run, age, accuracy):
    """Have a run of `digits` leave its scores and the card of its model."""
    moment, card = f"{NOW - age:%Y-%m-%d}", {"registered": {"card.json": f"card of {run}\n"}}
    digits.ran(run, moment, "evaluate", pipeline="digits", outputs=("scores",), metrics={"accuracy": accuracy})
    digits.ran(run, moment, "register", pipeline="digits", outputs=card)


def run(examples, digits):
    """Run the DAG; return what it says, and what became of its card."""
    before = set(runs.runs(digits.site.store, "waiting_dag"))
    done = examples.python("-m", "airflow", "dags", "test", "waiting_dag")
    (run_id,) = set(runs.runs(digits.site.store, "waiting_dag")) - before
    return done.stdout + done.stderr, runs.read_note(digits.site.store, "waiting_dag", run_id, "card")


def test_it_takes_what_a_run_of_the_week_made_or_confirmed_and_the_scores_of_the_last_good_one(examples, digits):
    leave(digits, "good", timedelta(days=30), 0.97)
    leave(digits, "newest", timedelta(days=3), 0.5)
    said, card = run(examples, digits)
    assert "Run newest of digits ran what file://" in said
    assert card["outcome"] == "ran"
    assert digits.site.store.read(card["outputs"]["card"]["path"]) == b"card of newest\nscores of good\n"

    digits.time += timedelta(hours=1)
    digits.reused("confirming", f"{NOW:%Y-%m-%d}", "register", pipeline="digits")
    said, card = run(examples, digits)
    assert "Run confirming of digits reused what file://" in said
    assert card["outcome"] == "reused"
