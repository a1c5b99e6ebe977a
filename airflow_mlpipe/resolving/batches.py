"""The mini-batches of a run: dealt out once, kept for its tasks and for the next run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataError, MlpipeError
from airflow_mlpipe.planning.batches import deal
from airflow_mlpipe.runtime.composite import load_batches, load_dealt
from airflow_mlpipe.runtime.protocol import dump
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.digests import content_of
from airflow_mlpipe.store.sides import Side

if TYPE_CHECKING:
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.composite import BatchSpec
    from airflow_mlpipe.runtime.protocol import InputSpec, StepSpec
    from airflow_mlpipe.store.digests import Content

_READERS = 8


def deal_out(site: Site, spec: StepSpec, run: str, plan: str, name: str) -> StepSpec:
    """Return a spec with its mini-batches, dealt out anew; what its last run had and is unchanged stays together.

    Every file is read, unless it is on the local disk and known; that is how it is seen which are new.

    :param name: under which they are kept for the tasks of this run, see `dealt_out`, and for the next run.
    :raises DataError: if the input is no folder, has no files, or cannot be read.
    """
    if spec.parallel is None:
        return spec
    files = _files(site, spec.inputs[spec.parallel.over], f"{spec.step}, input {spec.parallel.over}")
    latest = runs.read_latest(site.store, spec.pipeline, [name]).get(name, {})
    batches = deal(files, spec.parallel.mini_batch_size, load_batches(latest.get("batches", ())))
    body = {"batches": [{"files": list(batch.files), "content": dump(batch.content)} for batch in batches]}
    dealt = _dealt(files, spec.inputs[spec.parallel.over])
    of = {"dealt": dump(dealt)} if dealt else {}
    runs.write_note(site.store, spec.pipeline, run, name, {"outcome": "planned", "plan": plan, **body, **of})
    runs.write_latest(site.store, spec.pipeline, name, body)
    return _with(spec, batches, dealt)


def dealt_out(site: Site, spec: StepSpec, run: str, name: str) -> StepSpec:
    """Return a spec with the mini-batches that were dealt out in this run; with none where none were."""
    note: dict[str, Any] = runs.read_note(site.store, spec.pipeline, run, name) or {}
    return _with(spec, load_batches(note.get("batches", ())), load_dealt(note.get("dealt")))


def _with(spec: StepSpec, batches: tuple[BatchSpec, ...], dealt: Content | None) -> StepSpec:
    return replace(spec, parallel=replace(spec.parallel, batches=batches, dealt=dealt)) if spec.parallel else spec


def _dealt(files: dict[str, tuple[str, int]], given: InputSpec) -> Content | None:
    """Return what the files were when they were read, or as the input is compared: its version, its place."""
    if given.content is None or not given.content.digest.startswith("sha256:"):
        return given.content
    return content_of({path: digest for path, (digest, _) in files.items()}, sum(size for _, size in files.values()))


def _files(site: Site, given: InputSpec, what: str) -> dict[str, tuple[str, int]]:
    """Return digest and bytes of every file of an input."""
    side = Side(*site.open_uri(str(given.uri), given.datastore))
    try:
        sizes = dict(side.files())
        with ThreadPoolExecutor(_READERS) as pool:
            digests = side.digests([side.found_at(path) for path in sizes], site.index, pool)
    except MlpipeError:
        raise
    except Exception as error:  # each filesystem has errors of its own
        message = f"{what}: {given.uri} cannot be read: {error}; see that it is there, and the access to it"
        raise DataError(message) from error
    if not sizes or sizes.keys() == {""}:
        found = "has no files" if not sizes else "is a file"
        message = f"{what}: {given.uri} {found}; mini-batches are dealt out of the files of a folder"
        raise DataError(message)
    return {path: (digest, sizes[path]) for path, digest in zip(sizes, digests, strict=True)}
