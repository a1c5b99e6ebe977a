"""Pins: what a user means by them, and all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from airflow_mlpipe.cli.cached.records import SHORT
from airflow_mlpipe.cli.table import Column, moment, write_table
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.pins import Pin
from airflow_mlpipe.store.pins import read as read_pins

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_mlpipe.store.store import Store


def pin_of(store: Store, what: str | None, run: str | None, note: str) -> Pin:
    """Return the pin that a user asks for.

    :raises MlpipeError: if the store holds no such record or run.
    """
    if run is not None:
        return Pin(pipeline=_pipeline_of(store, what, run), run=run, note=note)
    return Pin(fingerprint=_fingerprints(store, what)[0], note=note)


def pinned(store: Store, what: str | None, run: str | None) -> Pin:
    """Return the pin that is to be taken away.

    :raises MlpipeError: if nothing of the kind is pinned, or several are.
    """
    pins = read_pins(store)
    if run is not None:
        found = [pin for pin in pins if pin.run == run and what in (None, pin.pipeline)]
    else:
        found = [pin for pin in pins if what and pin.fingerprint.startswith(what)]
        meant = () if found else _fingerprints(store, what)
        found = found or [pin for pin in pins if pin.fingerprint in meant]
    if len(found) != 1:
        message = f"{len(found)} pins are meant; mlpipe cache pin lists all of them"
        raise MlpipeError(message)
    return found[0]


def _fingerprints(store: Store, what: str | None) -> list[str]:
    from airflow_mlpipe.resolving.inventory import Inventory  # noqa: PLC0415 -- only where a record is meant

    if what is None:
        message = "say what: FINGERPRINT, PIPELINE.STEP or --run ID"
        raise MlpipeError(message)
    return [item.fingerprint for item in Inventory.read(store).find(what)]


def _pipeline_of(store: Store, pipeline: str | None, run: str) -> str:
    having = [name for name in runs.pipelines(store) if pipeline in (None, name) and run in runs.runs(store, name)]
    if len(having) == 1:
        return having[0]
    if having:
        message = f"{', '.join(having)} have a run {run!r}: say which, mlpipe cache pin PIPELINE --run {run}"
        raise MlpipeError(message)
    known = [name for each in runs.pipelines(store) if pipeline in (None, each) for name in runs.runs(store, each)]
    message = f"the store knows no run {run!r}. {did_you_mean(run, known[-5:]) if known else 'It knows none'}"
    raise MlpipeError(message)


def write_pins(pins: Iterable[Pin]) -> None:
    """Write what is pinned."""
    rows = [
        [pin.fingerprint[:SHORT] or f"{pin.pipeline} / {pin.run}", moment(pin.time) if pin.time else "", pin.note]
        for pin in pins
    ]
    if rows:
        write_table([Column("pinned", wraps=True), Column("since"), Column("note", wraps=True)], rows)
    else:
        sys.stdout.write("nothing is pinned\n")
