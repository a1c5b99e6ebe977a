from __future__ import annotations

import json
import shutil

import pytest

from airflow_mlpipe.store import pins
from airflow_mlpipe.store.pins import Pin
from airflow_mlpipe.store.store import Store
from tests.resolving.shelves import Shelves


@pytest.fixture
def shelves(examples, tmp_path, monkeypatch):
    """The store of that Airflow, with a pinned record and another one."""
    monkeypatch.delenv("MLPIPE_STORE", raising=False)
    made = Shelves(tmp_path)
    made.pinned, made.other = made.made("prepare"), made.made("train")
    for record in (made.pinned, made.other):
        made.age(record)
    pins.add(made.store, Pin(fingerprint=made.pinned.fingerprint))
    shutil.rmtree(examples.home / "mlpipe", ignore_errors=True)
    shutil.move(tmp_path / "store", examples.home / "mlpipe")
    made.store = Store.open(str(examples.home / "mlpipe"))
    return made


def run(examples, **params):
    done = examples.python("-m", "airflow", "dags", "test", "cache_maintenance", "--conf", json.dumps(params))
    return done.stdout + done.stderr


def test_as_it_is_it_only_says_what_would_go(examples, shelves):
    said = run(examples, keep_last=0)
    assert f"p.train {shelves.other.fingerprint[:12]} (5 bytes) goes: last used" in said
    assert f"p.prepare {shelves.pinned.fingerprint[:12]} (5 bytes) stays, since it is pinned" in said
    assert (shelves.holds(shelves.other), shelves.store.names("condemned")) == (True, [])


def test_what_goes_is_voided_first_and_removed_later(examples, shelves):
    run(examples, keep_last=0, dry_run=False)
    assert shelves.holds(shelves.other)
    said = run(examples, keep_last=0, dry_run=False, grace="0")
    assert f"removed {shelves.folder(shelves.other)}" in said
    assert (shelves.holds(shelves.other), shelves.holds(shelves.pinned)) == (False, True)
