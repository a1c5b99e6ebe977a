"""Runs that ended steps, as others find them in a store: records with outputs, and the journal, at any time one likes."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from unittest import mock

from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.resolving.records import make_body
from airflow_mlpipe.runtime.protocol import OutputRef, OutputSpec, StepResult, StepSpec
from airflow_mlpipe.store import journal, layout
from airflow_mlpipe.store.log import commit_unclaimed
from airflow_mlpipe.store.outputs import publish

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.store.entries import Record

NOON = datetime(2025, 2, 1, 12, tzinfo=timezone.utc)


class Clock(datetime):
    """What the writers of journals take for the time."""

    at = NOON

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at.astimezone(tz)


@dataclass
class Journaled:
    """Makes what runs of the pipeline ``p`` leave; each entry is written a second after the one before."""

    site: Site
    folder: Path
    time: datetime = NOON
    made: dict[str, Record] = field(default_factory=dict)
    """The last record of each step."""

    def ran(self, run: str, moment: str = "2025-01-31", step: str = "train", **given: Any) -> Record:
        """Leave a record with new outputs, and say so.

        :param given: ``outputs`` (names; or the files in each, by name), ``metrics``, ``parameters``, ``pipeline``.
        """
        self.made[step] = self.record(run, step, **given)
        self.ended("ran", run, moment, step, **given)
        return self.made[step]

    def reused(self, run: str, moment: str = "2025-01-31", step: str = "train", **given: Any) -> Record:
        """Say that a run took the last record of a step."""
        self.ended("reused", run, moment, step, **given)
        return self.made[step]

    def failed(self, run: str, moment: str = "2025-01-31", step: str = "train", **given: Any) -> None:
        """Say that a step failed."""
        self.ended("failed", run, moment, step, **given)

    def record(self, run: str, step: str, *, pipeline: str = "p", outputs: Any = ("model",), **given: Any) -> Record:
        names = {name: OutputSpec() for name in outputs}
        spec = StepSpec(pipeline, step, "command", (("x",),), outputs=names, parameters={"made": uuid.uuid4().hex})
        key, claim = fingerprint(components(spec)), uuid.uuid4().hex
        published = {}
        for name in outputs:
            source = self.folder / f"{claim}-{name}"
            if isinstance(outputs, dict):
                source.mkdir()
                for file, text in outputs[name].items():
                    (source / file).write_text(text)
            else:
                source.write_text(f"{name} of {run}\n")
            content = publish(self.site.store, key, claim, name, source)
            published[name] = OutputRef(layout.output(key, claim, name), content)
        result = StepResult(0, seconds=3.0, outputs=published, metrics=given.get("metrics", {}))
        made_by = {"pipeline": pipeline, "run": run, "step": step}
        return commit_unclaimed(self.site.store, key, claim, make_body(spec, result, made_by))

    def ended(self, outcome: str, run: str, moment: str, step: str, **given: Any) -> None:
        """Write an entry of the journal, and let a second pass."""
        self.time += timedelta(seconds=1)
        record = self.made.get(step) if outcome != "failed" else None
        use = journal.Use(step, outcome)
        if record:
            values = {name: given.get(name, {}) for name in ("metrics", "parameters")}
            use = journal.Use(step, outcome, record.fingerprint, record.number, 3.0, record.body["outputs"], **values)
        with mock.patch.object(Clock, "at", self.time), mock.patch.object(journal, "datetime", Clock):
            journal.append(self.site.store, given.get("pipeline", "p"), run, moments(moment), [use])

    def output(self, record: Record, name: str = "model") -> str:
        """Return where an output lies in the store."""
        return str(record.body["outputs"][name]["path"])


def moments(moment: str) -> dict[str, str]:
    """Return the moments of a run: of a scheduled one where this is a date, else of one without."""
    at = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).isoformat()
    return {"run_after": at} if "T" in moment else {"logical_date": at, "run_after": at}
