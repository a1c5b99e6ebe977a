"""What a store holds: every record, what it takes up, who made it, and who has used it since."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import MlpipeError, RecordFormatError
from airflow_mlpipe.resolving.records import outputs_of
from airflow_mlpipe.store import journal, layout, runs
from airflow_mlpipe.store.entries import Log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.entries import Record
    from airflow_mlpipe.store.store import Store

_BATCH = 2000
_READERS = 8
_SHORTEST = 4
_FINGERPRINT = 64


@dataclass(frozen=True)
class Used:
    """One use of a record by a step of a run: ``outcome`` is ran, reused or waited, ``time`` ISO 8601 in UTC."""

    pipeline: str
    run: str
    step: str
    outcome: str
    time: str


@dataclass(frozen=True)
class Item:
    """One record with what is known of it. ``outputs`` is None where the record is damaged or of a newer version."""

    record: Record
    outputs: Mapping[str, OutputRef] | None
    uses: tuple[Used, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The fingerprint it is a record of."""
        return self.record.fingerprint

    @property
    def made_by(self) -> Mapping[str, str]:
        """Pipeline, run and step that made it."""
        made_by = self.record.body.get("made_by")
        return made_by if isinstance(made_by, dict) else {}

    @property
    def step(self) -> tuple[str, str]:
        """The pipeline and the step that made it."""
        return self.made_by.get("pipeline", "?"), self.made_by.get("step", "?")

    @property
    def name(self) -> str:
        """The step that made it, as people name it."""
        return ".".join(self.step)

    @property
    def seconds(self) -> float:
        """What its command took."""
        seconds = self.record.body.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @property
    def folder(self) -> str:
        """Where its outputs lie."""
        return layout.outputs(self.fingerprint, self.record.published)

    @cached_property
    def size(self) -> int:
        """The bytes its outputs take up in the store; those of a transfer lie elsewhere."""
        if self.record.evicted:
            return 0
        return sum(output.content.size for output in (self.outputs or {}).values() if output.token is None)

    @cached_property
    def last_used(self) -> str:
        """When it was made or used last, ISO 8601 in UTC."""
        return max([self.record.time, *(use.time for use in self.uses)])


@dataclass(frozen=True)
class Inventory:
    """All records that count, newest first, and what else was read on the way.

    ``logs`` are those of all fingerprints that can be read, ``unreadable`` says why others cannot; ``entries`` are those
    of the journals, newest first, by pipeline.
    """

    items: tuple[Item, ...]
    logs: Mapping[str, Log]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, tuple[journal.Entry, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store) -> Inventory:
        """Read all logs and journals of a store: a few listings, then the files side by side."""
        entries = {name: tuple(journal.newest_first(store, name)) for name in runs.pipelines(store)}
        uses = _uses(entries)
        logs, unreadable = read_logs(store)
        records = (record for log in logs.values() for record in log.records)
        items = (
            Item(record, _outputs(record), uses.get((record.fingerprint, record.number), ())) for record in records
        )
        return cls(tuple(sorted(items, key=lambda item: item.record.time, reverse=True)), logs, unreadable, entries)

    def find(self, what: str) -> list[Item]:
        """Return the records that a fingerprint, the beginning of one, or ``PIPELINE.STEP`` stands for, newest first.

        :raises MlpipeError: if there are none, or the beginning is that of several.
        """
        found = [item for item in self.items if what in (item.name, item.fingerprint)]
        if not found and (last := self._last_of(what)):
            found = [item for item in self.items if (item.fingerprint, item.record.number) == last]
        if not found and _SHORTEST <= len(what) <= _FINGERPRINT and all(sign in "0123456789abcdef" for sign in what):
            found = [item for item in self.items if item.fingerprint.startswith(what)]
            if len({item.fingerprint for item in found}) > 1:
                message = f"{len({item.fingerprint for item in found})} fingerprints begin with {what}: give more of it"
                raise MlpipeError(message)
        if not found:
            remedy = did_you_mean(what, {item.name for item in self.items}) if self.items else "It holds none at all"
            message = f"the store has no record of {what!r}: give PIPELINE.STEP or a fingerprint. {remedy}"
            raise MlpipeError(message)
        return found

    def _last_of(self, what: str) -> tuple[str, int] | None:
        """Return the record that a step used last, where another step made it."""
        for pipeline, entries in self.entries.items():
            if what.startswith(f"{pipeline}."):
                step = what[len(pipeline) + 1 :]
                used = (use for entry in entries for use in entry.uses if use.step == step and use.number)
                if use := next(used, None):
                    return use.fingerprint, use.number
        return None


def read_logs(store: Store) -> tuple[dict[str, Log], dict[str, str]]:
    """Return the logs of all fingerprints, and why those that cannot be read cannot."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for path in store.sizes(layout.LOG):
        if parts := layout.log_parts(path):
            numbers[parts[0]].append(parts[1])
    logs: dict[str, Log] = {}
    unreadable: dict[str, str] = {}
    with ThreadPoolExecutor(_READERS) as pool:
        for contents in pool.map(lambda batch: _contents(store, batch), _batches(numbers)):
            for fingerprint, entries in contents.items():
                try:
                    logs[fingerprint] = Log.of(store, fingerprint, entries)
                except RecordFormatError as error:  # noqa: PERF203 -- the others can be read
                    unreadable[fingerprint] = str(error)
    return logs, unreadable


def _batches(numbers: Mapping[str, list[int]]) -> Iterator[dict[str, list[int]]]:
    batch: dict[str, list[int]] = {}
    count = 0
    for fingerprint, of_log in numbers.items():
        batch[fingerprint] = sorted(of_log)
        count += len(of_log)
        if count >= _BATCH:
            yield batch
            batch, count = {}, 0
    yield batch


def _contents(store: Store, batch: Mapping[str, Iterable[int]]) -> dict[str, dict[int, bytes]]:
    paths = {(fp, number): layout.log_entry(fp, number) for fp, numbers in batch.items() for number in numbers}
    contents = store.read_all(paths.values())
    return {fp: {number: contents.get(paths[fp, number], b"") for number in numbers} for fp, numbers in batch.items()}


def _outputs(record: Record) -> dict[str, OutputRef] | None:
    try:
        return outputs_of(record)
    except RecordFormatError:
        return None


def _uses(entries: Mapping[str, Iterable[journal.Entry]]) -> dict[tuple[str, int], tuple[Used, ...]]:
    """Return who used which record, the last time first."""
    found: dict[tuple[str, int], list[Used]] = defaultdict(list)
    for entry in (entry for of_pipeline in entries.values() for entry in of_pipeline):
        for use in entry.uses:
            if use.number:
                used = Used(entry.pipeline, entry.run, use.step, use.outcome, entry.time)
                found[use.fingerprint, use.number].append(used)
    return {key: tuple(sorted(uses, key=lambda use: use.time, reverse=True)) for key, uses in found.items()}
