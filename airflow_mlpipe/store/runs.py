"""What runs used and made: pins, plans, a note a step, and what each step was made from the last time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from airflow_mlpipe.store.copies import Copies
    from airflow_mlpipe.store.store import Store


def write_plan(store: Store, pipeline: str, run: str, plan: Mapping[str, Any]) -> None:
    """Keep the plan of a run; a later one of the same run replaces it."""
    _write(store, layout.plan(pipeline, run), {"pipeline": pipeline, "run": run, **plan})


def read_plan(store: Store, pipeline: str, run: str) -> dict[str, Any] | None:
    """Return the plan of a run, or None if it has none."""
    return _read(store, layout.plan(pipeline, run))


def write_pin(store: Store, pipeline: str, run: str, pin: Mapping[str, Any]) -> None:
    """Say that a run is under way and what it may use, before it looks anything up."""
    _write(store, layout.pin(pipeline, run), {"pipeline": pipeline, "run": run, **pin})


def read_pin(store: Store, pipeline: str, run: str) -> dict[str, Any] | None:
    """Return the pin of a run, or None if it has none."""
    return _read(store, layout.pin(pipeline, run))


def write_note(store: Store, pipeline: str, run: str, step: str, note: Mapping[str, Any]) -> None:
    """Keep how a step of a run ended; a later try replaces it."""
    _write(store, layout.note(pipeline, run, step), {"step": step, **note})


def read_note(store: Store, pipeline: str, run: str, step: str) -> dict[str, Any] | None:
    """Return how a step of a run ended, or None if nothing is known."""
    return _read(store, layout.note(pipeline, run, step))


def read_notes(store: Store, pipeline: str, run: str) -> dict[str, dict[str, Any]]:
    """Return how the steps of a run ended, by step."""
    folder = layout.notes(pipeline, run)
    paths = [f"{folder}/{name}" for name in store.names(folder) if not name.startswith(".")]
    notes = [decoded(store, path, content) for path, content in store.read_all(paths).items()]
    return {note["step"]: note for note in notes}


def write_latest(store: Store, pipeline: str, step: str, body: Mapping[str, Any]) -> None:
    """Keep what a step was made from this time."""
    _write(store, layout.latest(pipeline, step), body)


def read_latest(
    store: Store, pipeline: str, steps: Iterable[str], copies: Copies | None = None
) -> dict[str, dict[str, Any]]:
    """Return what some steps were made from the last time.

    Those that have never run are left out, and so are those of which that is damaged: it only explains.

    :param copies: to read many at once from.
    """
    paths = {layout.latest(pipeline, step): step for step in steps}
    found = {}
    for path, content in (_from(copies, pipeline, paths) if copies else store.read_all(paths)).items():
        with suppress(RecordFormatError):
            found[paths[path]] = store.decode(path, content)
    return found


def _from(copies: Copies, pipeline: str, paths: Container[str]) -> dict[str, bytes]:
    folder = layout.latest_of(pipeline)
    listed = copies.store.listings([folder])[folder]
    versions = {f"{folder}/{name}": listed[name].version for name in listed}
    return copies.read_all({path: version for path, version in versions.items() if path in paths})


def pipelines(store: Store) -> list[str]:
    """Return the pipelines that have runs, sorted."""
    found = set()
    for segment in _segments(store, layout.RUNS):
        folder = f"{layout.RUNS}/{segment}"
        name = layout.name_of(segment)
        runs_of = (f"{folder}/{run}" for run in _segments(store, folder)) if name is None else iter(())
        found.add(name or next((known for run in runs_of if (known := _named_inside(store, run, "pipeline"))), segment))
    return sorted(found)


def runs(store: Store, pipeline: str) -> list[str]:
    """Return the ids of the runs of a pipeline, sorted."""
    folder = layout.pipeline(pipeline)
    segments = _segments(store, folder)
    return sorted(layout.name_of(item) or _named_inside(store, f"{folder}/{item}", "run") or item for item in segments)


def _segments(store: Store, folder: str) -> list[str]:
    return [segment for segment in store.names(folder) if not segment.startswith(".")]


def _named_inside(store: Store, run_folder: str, key: str) -> str | None:
    """Return a name that was too long for a path, from what lies there."""
    for file in ("pin.json", "plan.json"):
        if body := _read(store, f"{run_folder}/{file}"):
            return str(body[key])
    return None


def _write(store: Store, path: str, body: Mapping[str, Any]) -> None:
    store.write(path, json.dumps(body, ensure_ascii=False, allow_nan=False, sort_keys=True).encode())


def _read(store: Store, path: str) -> dict[str, Any] | None:
    try:
        content = store.read(path)
    except FileNotFoundError:
        return None
    return decoded(store, path, content)


def decoded(store: Store, path: str, content: bytes) -> dict[str, Any]:
    """Return what the bytes of a plan, a pin or a note hold.

    :raises RecordFormatError: if they are damaged; it names the file.
    """
    body = store.decode(path, content)
    if not isinstance(body, dict) or not body:
        message = f"{store.uri(path)} is damaged (it holds {body!r:.100}); remove it, then run again"
        raise RecordFormatError(message)
    return body
