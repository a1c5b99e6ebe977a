"""What must not be removed now: what runs that are under way use, what people pinned, what somebody computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.resolving import planner
from airflow_mlpipe.resolving.inventory import read_logs
from airflow_mlpipe.resolving.launched import Launched
from airflow_mlpipe.store import condemned, layout, pins, runs
from airflow_mlpipe.store.beat import PATIENCE
from airflow_mlpipe.store.journal import newest_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_mlpipe.store.entries import Claim, Log
    from airflow_mlpipe.store.store import Store

LIVE = timedelta(days=7)
"""How long a run that has not ended counts as under way after it last gave a sign."""

RECENT = timedelta(days=1)
"""How long what a run used stays after it has ended: others may still read it."""

_SILENT = PATIENCE + 600.0
"""Seconds since the last beat after which nobody holds a claim any more."""


@dataclass
class Referring:
    """What must not be removed, each with the reason, for people."""

    fingerprints: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    """Folders of the outputs of a claim."""
    claims: set[str] = field(default_factory=set)
    """Those that somebody holds, who may be running, and those under which such a one goes on with what another began."""
    snapshots: set[str] = field(default_factory=set)
    """Digests of code and locks that steps to come need."""
    pipelines: set[str] = field(default_factory=set)
    """Those that have a run under way."""
    reading: dict[str, set[str]] = field(default_factory=dict)
    """Folders of outputs that the step of a claim was given, where its directory lies in the store."""
    runs: dict[str, str] = field(default_factory=dict)
    """Folders of runs that are pinned or hold a claim."""
    silent: dict[str, timedelta] = field(default_factory=dict)
    """By folder of a run, the time since it planned or, in the time that was looked at, one of its steps ended."""
    planning: bool = False
    """Whether some run has begun to plan, so that what it will name is not known."""

    def why(self, fingerprint: str, folder: str) -> str | None:
        """Return why a record must be kept, or None."""
        return self.fingerprints.get(fingerprint) or self.folders.get(folder)


def referring(
    store: Store, live: timedelta = LIVE, recent: timedelta = RECENT, logs: Mapping[str, Log] | None = None
) -> Referring:
    """Read what must not be removed now: first who computes, then runs and pins.

    :param live: how long after its last sign a run that has not ended counts as under way.
    :param recent: how long after its end what a run used stays.
    :param logs: those that were read just now.
    :raises RecordFormatError: if a pin, or the plan of a run that may be under way, cannot be read: nothing is known then.
    """
    found = Referring()
    known = read_logs(store)[0] if logs is None else logs
    holders = list(_holders(store, known))
    found.claims = {claim for holder in holders for claim in _worked_under(store, holder, known[holder.fingerprint])}
    holding = {(claim.owner.pipeline, claim.owner.run) for claim in holders}
    found.runs = {layout.run(pipeline, run): "a step of it is running" for pipeline, run in holding}
    for pin in pins.read(store):
        if pin.fingerprint:
            found.fingerprints[pin.fingerprint] = "it is pinned" + (f": {pin.note}" if pin.note else "")
        else:
            why = f"run {pin.run} is pinned" + (f": {pin.note}" if pin.note else "")
            found.runs[layout.run(pin.pipeline, pin.run)] = why
            _Run(store, pin.pipeline, pin.run).refer(found, why)
    for pipeline in runs.pipelines(store):
        for run, silent in _silences(store, pipeline, max(live, recent)):
            found.silent[layout.run(pipeline, run.name)] = silent
            _add(found, run, silent, live, recent, holds=(pipeline, run.name) in holding)
    _add_running(found, store, known)
    return found


def _add(  # noqa: PLR0913 -- one run and two times
    found: Referring, run: _Run, silent: timedelta, live: timedelta, recent: timedelta, *, holds: bool
) -> None:
    """Add what a run refers to, if it is under way or has ended just now."""
    if not holds and silent > max(live, recent):
        return
    if run.has_ended and not holds:
        if silent <= recent:
            run.refer(found, f"run {run.name} of {run.pipeline} used it {_ago(recent)}")
    elif holds or silent <= live:
        run.refer(found, f"run {run.name} of {run.pipeline} is under way", may_use=True)
        found.pipelines.add(run.pipeline)
        found.planning = found.planning or run.plans


def _ago(recent: timedelta) -> str:
    hours = recent.total_seconds() / 3600
    return f"in the last {hours:g} h"


def _silences(store: Store, pipeline: str, longest: timedelta) -> Iterator[tuple[_Run, timedelta]]:
    """Yield the runs of a pipeline, each with the time since it planned or one of its steps ended."""
    now = datetime.now(timezone.utc)
    since = now - min(longest, timedelta(days=3650)) - timedelta(days=1)
    ended: dict[str, str] = {}
    used: dict[str, list[Mapping[str, Mapping[str, Any]]]] = {}
    for entry in newest_first(store, pipeline, since=f"{since:%Y-%m-%d}"):
        ended.setdefault(entry.run, entry.time)
        used.setdefault(entry.run, []).extend(use.outputs for use in entry.uses)
    names = runs.runs(store, pipeline)
    paths = {name: layout.pin(pipeline, name) for name in names}
    contents = store.read_all(paths.values())
    for name, path in paths.items():
        pin = runs.decoded(store, path, contents[path]) if path in contents else None
        times = [_moment(time) for time in (ended.get(name), (pin or {}).get("time")) if time]
        if pin and "time" not in pin:
            times.append(condemned.modified(store, path))
        yield _Run(store, pipeline, name, pin, used.get(name, ())), now - max(times) if times else timedelta.max


def _add_running(found: Referring, store: Store, logs: Mapping[str, Log]) -> None:
    """Add what steps read whose directories lie in the store, unless their claims are known to have ended."""
    claims = [name for name in store.names(layout.WORK) if not name.startswith(".")] if store.local_root else []
    paths = [layout.work_spec(claim) for claim in claims]
    for path, content in store.read_all(paths).items():
        claim = path.split("/")[1]
        try:
            inputs = store.decode(path, content).get("inputs", {}).values()
        except RecordFormatError:
            continue
        for given in inputs:
            place = store.path_of(str(given.get("uri")))
            if place and (parts := layout.output_parts(place)):
                found.reading.setdefault(claim, set()).add(layout.outputs(parts[0], parts[1]))
    claimed = {entry.data["claim"] for log in logs.values() for entry in log.entries if entry.kind == "claim"}
    for claim in found.reading.keys() - (claimed - found.claims):
        found.folders.update(dict.fromkeys(found.reading[claim], "a step that is running reads it"))


def _holders(store: Store, logs: Mapping[str, Log]) -> Iterator[Claim]:
    """Yield the claims whose holders may live."""
    held = [log.holder for log in logs.values() if log.holder and not log.holder.owner.is_dead()]
    paths = {claim.id: layout.beat(claim.fingerprint, claim.id) for claim in held}
    entries = {claim.id: layout.log_entry(claim.fingerprint, claim.number) for claim in held}
    ages = condemned.age_of(store, [*paths.values(), *entries.values()])
    for claim in held:
        if min(ages.get(paths[claim.id], _SILENT), ages.get(entries[claim.id], _SILENT)) < _SILENT:
            yield claim


def _worked_under(store: Store, holder: Claim, log: Log) -> set[str]:
    """Return the claims under which a holder's outputs are published: another's where it goes on with what that one began."""
    try:
        launched = Launched.read(store, holder.owner)
    except RecordFormatError:  # then it may be any
        return {holder.id, *(claim.id for claim in log.unfinished)}
    return {holder.id, launched.work} if launched and launched.claim == holder.id else {holder.id}


@dataclass
class _Run:
    """What the store knows of one run."""

    store: Store
    pipeline: str
    name: str
    pin: Mapping[str, Any] | None = None
    used: Sequence[Mapping[str, Mapping[str, Any]]] = ()

    @cached_property
    def has_ended(self) -> bool:
        """Whether nothing of it is known to come: it was planned, and all its planned steps have ended well."""
        plan = self.plan
        if plan is None or self.plans:
            return False
        return all(
            step["decision"] in {"reuse", "not_run"} or self._has_ended_well(step["step"], plan["id"])
            for step in plan["steps"]
        )

    def _has_ended_well(self, step: str, plan: str) -> bool:
        note = self.notes.get(step, {"outcome": "failed"})
        return note["outcome"] != "failed" and note.get("plan") == plan

    @cached_property
    def plans(self) -> bool:
        """Whether it has begun to plan and has not written its plan yet."""
        if self.pin is None:
            return False
        if self.plan is None:
            return True
        pin, plan = layout.pin(self.pipeline, self.name), layout.plan(self.pipeline, self.name)
        return condemned.modified(self.store, pin) > condemned.modified(self.store, plan)

    def refer(self, found: Referring, why: str, *, may_use: bool = False) -> None:
        """Add what it used, and where it is under way what it may use."""
        if may_use:
            for fingerprint in (self.pin or {}).get("fingerprints", ()):
                found.fingerprints.setdefault(fingerprint, why)
        for step in self.plan["steps"] if self.plan else ():
            found.snapshots.update(code_of(step["spec"]))
            _refer(found, (step.get("found") or {}).get("outputs", {}), why)
        for outputs in (*self.used, *(note.get("outputs", {}) for note in self.notes.values())):
            _refer(found, outputs, why)

    @cached_property
    def plan(self) -> dict[str, Any] | None:
        """Its plan."""
        plan = runs.read_plan(self.store, self.pipeline, self.name)
        if plan is not None and plan.get("format") != planner.FORMAT:
            message = (
                f"the plan of run {self.name!r} of {self.pipeline!r} has format {plan.get('format')!r}, so that it is not "
                "known what it uses, and nothing can be removed: use the version of airflow-mlpipe that runs pipelines"
            )
            raise RecordFormatError(message)
        return plan

    @cached_property
    def notes(self) -> dict[str, dict[str, Any]]:
        """How its steps ended."""
        return runs.read_notes(self.store, self.pipeline, self.name)


def _refer(found: Referring, outputs: Mapping[str, Mapping[str, Any]], why: str) -> None:
    for output in outputs.values():
        if parts := layout.output_parts(str(output.get("path", ""))):
            found.folders.setdefault(layout.outputs(parts[0], parts[1]), why)


def code_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the digests of the code and the lock that a spec names, as `dump` leaves it."""
    digests = (spec.get("code"), spec.get("environment", {}).get("lock"))
    return [digest for digest in digests if digest]


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
