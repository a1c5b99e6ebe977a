"""A store with records, runs and leftovers, as retention finds them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.planning.plan import Decision, Task
from airflow_mlpipe.resolving.planner import RunPlan
from airflow_mlpipe.resolving.records import found, outputs_of, use_of
from airflow_mlpipe.runtime.protocol import OutputSpec, StepSpec, dump
from airflow_mlpipe.store import journal, layout, runs
from airflow_mlpipe.store.entries import sealed
from tests.resolving.projects import Project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.store.log import Record
    from airflow_mlpipe.store.store import Store

LONG_AGO = "2020-01-01T00:00:00+00:00"


class Shelves:
    """One store, filled by hand."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.store: Store = self.project.site.store
        self.specs: dict[str, StepSpec] = {}

    def spec(self, step: str, c: float = 1.0, **fields: Any) -> StepSpec:
        """Return the spec of a step that has one output."""
        made = StepSpec("p", step, "command", ((step,),), parameters={"c": c}, outputs={"out": OutputSpec()})
        return replace(made, **fields)

    def made(self, step: str = "train", c: float = 1.0, run: str = "r0", text: str = "made\n", **body: Any) -> Record:
        """Leave a record with its output; the run that made it left nothing else."""
        spec = body.pop("spec_", None) or self.spec(step, c)
        record = self.project.made(spec, run, outputs=dict.fromkeys(spec.outputs, text), **body)
        self.specs[record.fingerprint] = spec
        return record

    def used(self, record: Record, run: str = "r1", outcome: str = "reused", step: str | None = None) -> None:
        """Leave in the journal that a step of a run used a record."""
        spec = self.specs[record.fingerprint]
        use = use_of(spec, outcome, record.fingerprint, found(record, outputs_of(record)))
        journal.append(self.store, "p", run, {}, [replace(use, step=step or spec.step)])

    def planned(self, run: str, *decisions: Decision) -> RunPlan:
        """Leave the plan of a run."""
        tasks = {decision.step: Task(decision.spec) for decision in decisions}
        plan = RunPlan("p", run, "digest", tasks, {decision.step: decision for decision in decisions})
        runs.write_plan(self.store, "p", run, plan.to_json())
        return plan

    def reuses(self, record: Record) -> Decision:
        """Return the decision to reuse a record."""
        spec = self.specs[record.fingerprint]
        return Decision("reuse", spec, record.fingerprint, found(record, outputs_of(record)))

    def noted(self, run: str, step: str, outcome: str = "ran", plan: str = "", record: Record | None = None) -> None:
        """Leave the note of a step."""
        outputs = {name: dump(output) for name, output in outputs_of(record).items()} if record else {}
        runs.write_note(self.store, "p", run, step, {"outcome": outcome, "plan": plan, "outputs": outputs})

    def pin(self, run: str, *records: Record, ago: timedelta = timedelta(0)) -> None:
        """Leave the pin that a run writes before it looks anything up."""
        time = (datetime.now(timezone.utc) - ago).isoformat()
        body: Mapping[str, Any] = {"time": time, "fingerprints": [record.fingerprint for record in records]}
        runs.write_pin(self.store, "p", run, body)

    def folder(self, record: Record) -> str:
        return layout.outputs(record.fingerprint, record.claim)

    def holds(self, record: Record) -> bool:
        """Say whether the outputs of a record are there."""
        return bool(self.store.sizes(self.folder(record)))

    def age(self, record: Record) -> None:
        """Let a record be made long ago."""
        path = layout.log_entry(record.fingerprint, record.number)
        self.store.write(path, sealed({**unsealed(self.store.read(path)), "time": LONG_AGO}))


def unsealed(entry: bytes) -> dict[str, Any]:
    """Return what an entry of a log says, to write it down changed."""
    return {name: value for name, value in json.loads(entry).items() if name != "checksum"}
