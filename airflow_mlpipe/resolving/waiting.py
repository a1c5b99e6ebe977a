"""Who waits for an output: what counts for them, and what they have seen so far, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.resolving.predicate import Predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.entries import Log, Record
    from airflow_mlpipe.store.journal import Use

_SHOWN_DIGITS = 12
_VERBS = {"ran": "made it", "reused": "reused it", "waited": "waited for it", "failed": "failed in it"}

Name: TypeAlias = "tuple[str, str]"
"""``("outputs", "model")``, or the same of ``metrics`` and ``parameters``."""


@dataclass(frozen=True)
class Wanted:
    """What somebody waits for: the output of a ``step`` of a ``pipeline``, or a record of a ``fingerprint``.

    A run counts whose logical date (without one: the moment from which it could run) is not before ``after``, and whose
    metrics and parameters fit ``where``. ``outputs`` are those needed; all, if there are none.
    """

    pipeline: str = ""
    step: str = ""
    outputs: tuple[str, ...] = ()
    after: datetime | None = None
    where: Predicate | None = None
    fingerprint: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """Return what `to_json` was called on."""
        after, where = data["after"], data["where"]
        return cls(
            data["pipeline"],
            data["step"],
            tuple(data["outputs"]),
            datetime.fromisoformat(after) if after else None,
            Predicate.parse(where) if where else None,
            data["fingerprint"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {
            "pipeline": self.pipeline,
            "step": self.step,
            "outputs": list(self.outputs),
            "after": self.after.isoformat() if self.after else None,
            "where": self.where.text if self.where else None,
            "fingerprint": self.fingerprint,
        }

    @property
    def names(self) -> tuple[Name, ...]:
        """The outputs, metrics and parameters that are asked for."""
        return (*(("outputs", name) for name in self.outputs), *(self.where.names if self.where else ()))

    def __str__(self) -> str:
        """Say it in words."""
        outputs = f"output {' and '.join(self.outputs)} of " if self.outputs else ""
        if self.fingerprint:
            return f"{outputs}a record of fingerprint {self.fingerprint[:_SHOWN_DIGITS]}..."
        late = f" for {moment_text(self.after)} or later" if self.after else ""
        fit = f" with {self.where.text}" if self.where else ""
        by = f" by a run{late}{fit}" if late or fit else ""
        return f"{outputs}{self.step} of {self.pipeline}{by}"


@dataclass(frozen=True)
class Confirmed:
    """An output that is there. ``by`` tells the run that confirmed it, ``made_by`` the one that made it."""

    record: Record
    outputs: Mapping[str, OutputRef]
    by: Mapping[str, Any]

    @property
    def made_by(self) -> Mapping[str, str]:
        """Pipeline, run and step that made it."""
        made_by: Mapping[str, str] = self.record.body.get("made_by", {})
        return made_by

    def __str__(self) -> str:
        """Say it in words."""
        return f"run {self.by.get('run')} of {self.by.get('pipeline')} {_did(self.by['outcome'], self.by['time'])}"

    def to_json(self) -> dict[str, Any]:
        """Return what `look_again` needs to find it again."""
        return {"fingerprint": self.record.fingerprint, "number": self.record.number, "by": dict(self.by)}


@dataclass(frozen=True)
class Ending:
    """How a step ended in a run. ``number`` counts endings as they were read, ``time`` is that of the journal."""

    number: int
    pipeline: str
    run: str
    time: str
    moments: Mapping[str, str]
    use: Use

    @property
    def moment(self) -> datetime | None:
        """What the run is for."""
        text = self.moments.get("logical_date") or self.moments.get("run_after")
        return datetime.fromisoformat(text) if text else None

    def by(self) -> dict[str, Any]:
        """Return who confirms what, as plain JSON data."""
        run = {"pipeline": self.pipeline, "run": self.run, "step": self.use.step}
        return {**run, "outcome": self.use.outcome, "time": self.time, "moments": dict(self.moments)}

    def __str__(self) -> str:
        """Say it in words."""
        return f"run {self.run} {_did(self.use.outcome, self.time)}"


There: TypeAlias = "Callable[[str, int, tuple[str, ...]], tuple[Record, Mapping[str, OutputRef]] | str]"
"""Returns a record whose outputs are there, by fingerprint and number, or what is wrong with it."""


@dataclass
class Waiting:
    """Somebody who waits, and what came of it so far.

    ``since`` is the first day of the journal that matters for whoever reads on from here. ``rejected`` are records that
    others found to be not there. ``checked`` says that the names that are asked for exist. ``lost`` would be what is
    waited for, if its outputs were there: somebody may make them again.
    """

    wanted: Wanted
    since: str = ""
    news: str = ""
    checked: bool = False
    rejected: frozenset[str] = frozenset()
    trouble: str = ""
    number: int = 0
    lost: Ending | None = None
    _told: str = ""
    _known: set[Name] = field(default_factory=set)
    _steps: set[str] = field(default_factory=set)

    def message(self) -> str:
        """Return what is waited for, and what was seen last."""
        known = f"; {self.news or self._nothing()}"
        return f"waits for {self.wanted}{known}{f'; {self.trouble}' if self.trouble else ''}"

    def consider(self, ending: Ending, there: There) -> Confirmed | None:
        """Return what an ending confirms, if that is what is waited for."""
        use, wanted = ending.use, self.wanted
        if use.number:
            self._know(use)
        why = self._why_not(ending)
        if why is None:
            found = self._found(use.fingerprint, use.number, there)
            if not isinstance(found, str):
                return Confirmed(*found, ending.by())
            why = f", but {found}"
            if self.lost is None or ending.time >= self.lost.time:
                self.lost = ending
        if ending.time >= self._told:
            self._told, self.news = ending.time, f"last seen: {ending}{why}"
        if wanted.names:
            self.checked = self.checked or self._known >= set(wanted.names)
        return None

    def consider_records(self, log: Log, there: There) -> Confirmed | None:
        """Return what the log of the fingerprint that is waited for holds.

        :raises DataError: if its records have no such output.
        """
        if not log.records:
            self.news = "it was voided" if any(entry.kind == "void" for entry in log.entries) else "there is none yet"
            return None
        self._known.update(("outputs", name) for record in log.records for name in record.body.get("outputs", ()))
        found = self._found(log.fingerprint, log.records[0].number, there)
        if isinstance(found, str):
            self.news = f"there is one, but {found}"
            self.check_names()
            return None
        record, outputs = found
        made_by = record.body.get("made_by", {})
        return Confirmed(record, outputs, {**made_by, "outcome": "ran", "time": record.time, "moments": {}})

    def note_steps(self, steps: Iterable[str]) -> None:
        """Remember which steps the pipeline has, to tell whoever has misspelt one."""
        self._steps.update(steps)

    def check_names(self) -> None:
        """Check that what is asked for exists at all, as far as runs tell.

        :raises DataError: if no run seen so far has it; it names what there is.
        """
        unknown = [name for name in self.wanted.names if name not in self._known]
        if self.checked or not self._known or not unknown:
            return
        kind, _ = unknown[0]
        there = ", ".join(_shown(name) for name in sorted(self._known) if name[0] == kind) or f"no {kind} at all"
        what = "record of this fingerprint" if self.wanted.fingerprint else f"run of {self.wanted.step} so far"
        message = f"waits in vain for {self.wanted}: no {what} has {_shown(unknown[0])}; there are {there}"
        raise DataError(message)

    def _why_not(self, ending: Ending) -> str | None:
        """Return why an ending does not count, as the end of a sentence."""
        wanted, use = self.wanted, ending.use
        if not use.number:
            return ""
        if wanted.after and (ending.moment is None or ending.moment < wanted.after):
            return f", which is for {moment_text(ending.moment)}" if ending.moment else ", which is for no date"
        if missing := [name for name in wanted.outputs if name not in use.outputs]:
            return f", without output {missing[0]}"
        if wanted.where and (why := wanted.where.why_not({"metrics": use.metrics, "parameters": use.parameters})):
            return f", but {why}"
        return None

    def _found(self, fingerprint: str, number: int, there: There) -> tuple[Record, Mapping[str, OutputRef]] | str:
        found = there(fingerprint, number, self.wanted.outputs)
        if not isinstance(found, str) and record_name(found[0].fingerprint, found[0].number) in self.rejected:
            return "the worker did not find it: see that triggerer and worker reach the same store"
        return found

    def _know(self, use: Use) -> None:
        for kind, names in (("outputs", use.outputs), ("metrics", use.metrics), ("parameters", use.parameters)):
            self._known.update((kind, name) for name in names)

    def _nothing(self) -> str:
        pipeline, step = self.wanted.pipeline, self.wanted.step
        if not self._steps:
            return f"no run of {pipeline} has ended a step yet"
        return f"no run of {pipeline} has ended a step {step} yet. {did_you_mean(step, sorted(self._steps))}"


def _did(outcome: str, time: str) -> str:
    return f"{_VERBS.get(outcome, outcome)} at {moment_text(datetime.fromisoformat(time))}"


def _shown(name: Name) -> str:
    return f"output {name[1]}" if name[0] == "outputs" else ".".join(name)


def record_name(fingerprint: str, number: int) -> str:
    """Return what names a record among all."""
    return f"{fingerprint}/{number}"


def moment_text(moment: datetime) -> str:
    """Return a moment as people write it: midnight is a date."""
    moment = moment.astimezone(timezone.utc)
    if not (moment.hour or moment.minute or moment.second or moment.microsecond):
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC".replace(":00 UTC", " UTC")
