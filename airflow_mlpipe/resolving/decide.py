"""Finds what can be reused: the newest record whose software is the same and whose outputs are really there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import DataError, RecordFormatError
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import Reason, differences
from airflow_mlpipe.planning.plan import Found, Missing
from airflow_mlpipe.resolving.locks import versions
from airflow_mlpipe.resolving.records import found, outputs_of, was_made_by
from airflow_mlpipe.resolving.references import token_now
from airflow_mlpipe.runtime.observe import current
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store import outputs as published
from airflow_mlpipe.store import runs, snapshots
from airflow_mlpipe.store.digests import is_local
from airflow_mlpipe.store.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef, StepSpec
    from airflow_mlpipe.store.copies import Copies
    from airflow_mlpipe.store.log import Record

_READERS = 32

_EXPLAINING = {"fingerprint", "components"}
"""What must be known of the last time to say what differs now."""


@dataclass
class StoreLookUp:
    """Looks fingerprints up in the store of a site, on behalf of one run.

    Where ``voiding``, a record whose outputs are damaged or gone is voided with that reason; a dry run leaves it.
    """

    site: Site
    pipeline: str
    run: str
    interpreter_of: Callable[[StepSpec], str]
    voiding: bool = True
    _logs: dict[str, Log] = field(default_factory=dict)
    _versions: dict[str, dict[str, str]] = field(default_factory=dict)
    _verified: dict[str, str | None] = field(default_factory=dict)

    def prefetch(self, fingerprints: Iterable[str], copies: Copies | None = None) -> None:
        """Read the logs of fingerprints that will probably be asked for, side by side.

        Where each look takes time, the outputs of their records are looked at as well.

        :param copies: to read many logs at once from.
        """
        wanted = [fp for fp in dict.fromkeys(fingerprints) if fp not in self._logs]
        if not wanted:
            return
        if copies and copies.store.is_far:
            self._logs.update(Log.read_many(copies, wanted))
            outputs = [output for fp in wanted for output in _stored(self._logs[fp])]
            known = {output.path: output.content for output in outputs}
            self._verified.update(published.verify_all(self.site.store, known))
            return
        with ThreadPoolExecutor(_READERS) as pool:
            for fp, log in zip(wanted, pool.map(self._read, wanted), strict=True):
                self._logs[fp] = log
            if self.site.store.local_root is None:
                outputs = [output for fp in wanted for output in _stored(self._logs[fp])]
                for output, lost in zip(outputs, pool.map(self._look_at, outputs), strict=True):
                    self._verified[output.path] = lost

    def _look_at(self, output: OutputRef) -> str | None:
        return published.verify(self.site.store, output.path, output.content)

    def refresh(self, fingerprint: str) -> None:
        """Forget what was read of a fingerprint; it may have a record by now."""
        self._logs.pop(fingerprint, None)

    def observed(self, fingerprint: str, number: int) -> Mapping[str, str]:
        """Return the distributions that the step of a record imported, by version; the record was found before."""
        records = self._logs[fingerprint].records if fingerprint in self._logs else self._read(fingerprint).records
        found = (record.body.get("observed") for record in records if record.number == number)
        return next(found, None) or {}

    def find(self, spec: StepSpec, fingerprint: str, *, only_this_run: bool = False) -> Found | Missing:
        """Return the newest record that can be reused, or why none can."""
        log = self._logs.get(fingerprint) or self._read(fingerprint)
        reasons: tuple[Reason, ...] = ()
        for record in log.records:
            if only_this_run and not was_made_by(record, self.pipeline, self.run):
                continue
            result = self._examine(record, spec)
            if isinstance(result, Found):
                return result
            reasons = reasons or result.reasons
        return Missing(reasons or _voided(log))

    def find_or_evicted(self, spec: StepSpec, fingerprint: str) -> Found | Missing:
        """Return the newest record that can be reused, else the newest that has given up its outputs (rule 12)."""
        if fingerprint not in self._logs:
            self._logs[fingerprint] = self._read(fingerprint)
        result = self.find(spec, fingerprint)
        if isinstance(result, Found):
            return result
        evicted = (self._evicted(record, spec) for record in self._logs[fingerprint].records if record.evicted)
        return next(filter(None, evicted), result)

    def _evicted(self, record: Record, spec: StepSpec) -> Found | None:
        """Return a record without its outputs, if just these are what it lacks."""
        if self._changed_software(record, spec):
            return None
        try:
            outputs = outputs_of(record)
        except RecordFormatError:
            return None
        if not spec.outputs.keys() <= outputs.keys() or self._undelivered(outputs, spec):
            return None
        return replace(found(record, outputs), evicted=True)

    def _read(self, fingerprint: str) -> Log:
        return fingerprint_log.Log.read(self.site.store, fingerprint)

    def _examine(self, record: Record, spec: StepSpec) -> Found | Missing:
        if changed := self._changed_software(record, spec):
            return Missing(changed)
        try:
            outputs = outputs_of(record)
        except RecordFormatError as error:
            return Missing((Reason("record", str(error)),))
        if record.evicted:
            return Missing((Reason("outputs", "its outputs were evicted"),))
        there, damage = self._there(outputs, spec)
        if damage:
            if self.voiding:
                fingerprint_log.void(self.site.store, record.fingerprint, record.number, damage[0].what)
            return Missing(damage)
        return found(record, there, self._undelivered(there, spec))

    def _changed_software(self, record: Record, spec: StepSpec) -> tuple[Reason, ...]:
        """Compare the distributions the step imported with those installed now (rule 4)."""
        observed: Mapping[str, str] = record.body.get("observed", {})
        if not spec.environment.observe or not observed:
            return ()
        now = self._installed(self.interpreter_of(spec), observed)
        return tuple(
            Reason("software", name, version, now[name] or None)
            for name, version in sorted(observed.items())
            if now[name] != version
        )

    def _installed(self, interpreter: str, names: Iterable[str]) -> Mapping[str, str]:
        known = self._versions.setdefault(interpreter, {})
        if unknown := [name for name in names if name not in known]:
            known.update(current(interpreter, unknown))
        return known

    def _there(
        self, outputs: Mapping[str, OutputRef], spec: StepSpec
    ) -> tuple[dict[str, OutputRef], tuple[Reason, ...]]:
        """Return the outputs as they are now, and what is wrong with those that are damaged or gone."""
        there: dict[str, OutputRef] = {}
        reasons = []
        for name, wanted in spec.outputs.items():
            state = self._as_it_is(outputs.get(name), wanted.datastore)
            if isinstance(state, str):
                reasons.append(Reason("outputs", f"output {name} of the earlier run: {state}"))
            else:
                there[name] = state
        return there, tuple(reasons)

    def _as_it_is(self, output: OutputRef | None, datastore: str | None) -> OutputRef | str:
        if output is None:
            return "its record does not name it"
        if output.token is None:
            return self._lost(output) or output
        return self._moved(replace(output, datastore=datastore))  # the workspace may have renamed it

    def _lost(self, output: OutputRef) -> str | None:
        """Return what is wrong with an output, or None; what was seen a moment ago counts once."""
        return self._verified.pop(output.path) if output.path in self._verified else self._look_at(output)

    def _moved(self, output: OutputRef) -> OutputRef | str:
        """Return the destination of a transfer with its version now, or what happened to it (rule 13).

        On the local disk its content counts, which the stat index knows: a time says too little there (a change that
        keeps it is a change) and too much (a touched file is the same). Elsewhere its version does.

        :raises DataError: if it is out of reach, which says nothing of what lies there (rule 10).
        """
        fs, path = self.site.open_uri(output.path, output.datastore)
        try:
            token = token_now(fs, path)
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError | DataError):
                return str(error)
            raise
        same = self.site.holds(output.path, output.datastore, output.content) if is_local(fs) else token == output.token
        return replace(output, token=token) if same else f"{output.path} is no longer what was copied there"

    def _undelivered(self, outputs: Mapping[str, OutputRef], spec: StepSpec) -> tuple[str, ...]:
        if spec.kind == "data_transfer":
            return ()
        return tuple(
            name
            for name, output in spec.outputs.items()
            if output.destination and not self.site.holds(output.destination, output.datastore, outputs[name].content)
        )


def _stored(log: Log) -> list[OutputRef]:
    """Return the outputs of the newest record that lie in the store, as far as it can be read."""
    record = next(iter(log.records), None)
    if record is None or record.evicted:
        return []
    try:
        return [output for output in outputs_of(record).values() if output.token is None]
    except RecordFormatError:
        return []


def _voided(log: Log) -> tuple[Reason, ...]:
    """Return why the newest commit of a log counts no more: it is damaged, or somebody said so, a plan a moment ago."""
    last = next((entry for entry in reversed(log.entries) if entry.kind in {"commit", "void"}), None)
    if max(log.damaged, default=0) > (last.number if last else 0):
        return (Reason("record", f"entry {max(log.damaged)} of its log is damaged, which may have been its record"),)
    reason = last.data.get("reason") if last and last.kind == "void" else None
    return (Reason("outputs", str(reason)),) if reason else ()


@dataclass
class History:
    """What each step of a pipeline was made from the last time, to say what differs now."""

    site: Site
    pipeline: str
    latest: dict[str, dict[str, Any]]
    scanned: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(
        cls,
        site: Site,
        pipeline: str,
        steps: Iterable[str],
        scanned: Mapping[str, Mapping[str, str]],
        copies: Copies | None = None,
    ) -> History:
        """Read the latest notes of some steps.

        :param scanned: the files of the snapshots and the packages of the locks at hand, by digest; others are read
            from the store when needed.
        """
        kept = runs.read_latest(site.store, pipeline, steps, copies if copies and site.store.is_far else None)
        latest = {step: body for step, body in kept.items() if isinstance(body, dict) and body.keys() >= _EXPLAINING}
        return cls(site, pipeline, latest, scanned)

    def fingerprints(self) -> list[str]:
        """Return what the last runs used: what this one will probably ask for."""
        return [body["fingerprint"] for body in self.latest.values()]

    def explain(self, spec: StepSpec) -> tuple[Reason, ...]:
        """Return how a spec differs from what the step was made from the last time."""
        earlier = self.latest.get(spec.step)
        if earlier is None:
            return (Reason("record", "it has not run before"),)
        return differences(earlier["components"], components(spec), self._parts_of) or (
            Reason("record", "its record has been removed"),
        )

    def note(self, spec: StepSpec, fingerprint: str, run: str) -> None:
        """Keep what a step is made from now, where that differs from what is kept."""
        if self.latest.get(spec.step, {}).get("fingerprint") == fingerprint:
            return
        body = {"fingerprint": fingerprint, "run": run, "components": components(spec)}
        runs.write_latest(self.site.store, self.pipeline, spec.step, body)
        self.latest[spec.step] = body

    def _parts_of(self, digest: str) -> Mapping[str, str] | None:
        """Return the files of a snapshot or the packages of a lock; None if it is gone."""
        if digest in self.scanned:
            return self.scanned[digest]
        store = self.site.store
        with suppress(FileNotFoundError, RecordFormatError):
            return files_in(snapshots.read(store, digest))
        with suppress(FileNotFoundError, RecordFormatError, ValueError):
            return versions(snapshots.get_blob(store, digest).decode().splitlines())
        return None


def files_in(snapshot: snapshots.Snapshot) -> dict[str, str]:
    """Return the files of a snapshot as an explanation compares them: content and whether it is executable."""
    return {
        path: source.digest + (" executable" if source.executable else "") for path, source in snapshot.files.items()
    }
