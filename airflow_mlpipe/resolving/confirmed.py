"""The newest output of a step that fits what somebody waits for, as the journal of its pipeline tells.

A run confirms an output by making it or by reusing it. `look_back` reads a journal from now back to where it matters;
`Follower` reads on as it grows, once for all who wait.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlpipe.exceptions import DataError, RecordFormatError, StoreUnreachableError
from airflow_mlpipe.resolving.records import outputs_of
from airflow_mlpipe.resolving.references import token_now
from airflow_mlpipe.resolving.waiting import Confirmed, Ending
from airflow_mlpipe.runtime.protocol import dump
from airflow_mlpipe.store import journal, runs
from airflow_mlpipe.store import outputs as published
from airflow_mlpipe.store.digests import is_local
from airflow_mlpipe.store.entries import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.resolving.waiting import There, Waiting, Wanted
    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.entries import Record
    from airflow_mlpipe.store.store import Store

SLACK = timedelta(hours=1)
"""How far the clocks of those who write may be off and still be noticed by the next look; `Follower` finds others later."""

MARGIN = timedelta(days=2)
"""How much earlier than it should a reading begins, for the sake of clocks that are off, and of runs ahead of their date."""

_THOROUGH = 10
"""After so many looks all days are looked through for new ones."""
_BEYOND = 200
"""The entries read in vain, before those that can count, for something to tell about the step."""
_DAY = "%Y-%m-%d"


def look_back(site: Site, waiting: Waiting) -> Confirmed | None:
    """Return the newest output that fits, or None; read the journal from now back to where it matters.

    :raises DataError: if what is asked for does not exist, as far as runs tell.
    :raises StoreError: if the store cannot be read.
    """
    wanted, there = waiting.wanted, _there_in(site)
    if wanted.fingerprint:
        return waiting.consider_records(Log.read(site.store, wanted.fingerprint), there)
    now = datetime.now(timezone.utc)
    waiting.since = first = _day_before(wanted.after) if wanted.after else ""
    seen: set[str] = set()
    beyond = 0
    for entry in journal.newest_first(site.store, wanted.pipeline):
        waiting.note_steps(use.step for use in entry.uses)
        for ending in _endings(entry, wanted.step):
            if entry.run not in seen and (found := waiting.consider(ending, there)):
                return found
            seen.add(entry.run)
        if entry.time < first:
            beyond += 1
            if seen or beyond >= _BEYOND:
                break
    waiting.check_names()
    waiting.since = _day(now - MARGIN)
    return None


def look_again(site: Site, wanted: Wanted, data: Mapping[str, Any]) -> Confirmed | str:
    """Return what somebody else found, if it is still there; else what is wrong with it.

    :param data: what `Confirmed.to_json` returned.
    """
    found = _there_in(site)(data["fingerprint"], data["number"], wanted.outputs)
    return found if isinstance(found, str) else Confirmed(*found, data["by"])


def write_down(site: Site, used_by: Mapping[str, str], moments: Mapping[str, str], found: Confirmed) -> None:
    """Keep that a run uses an output, so that it stays as long as the run is under way.

    :param used_by: ``pipeline``, ``run`` and ``step``.
    :raises StoreError: if the store cannot be written.
    """
    pipeline, run, step = used_by["pipeline"], used_by["run"], used_by["step"]
    record, outputs = found.record, {name: dump(output) for name, output in found.outputs.items()}
    note = {"outcome": "waited", "fingerprint": record.fingerprint, "entry": record.number, "outputs": outputs}
    runs.write_note(site.store, pipeline, run, step, {**note, "seconds": 0.0, "made_by": dict(found.made_by)})
    use = journal.Use(step, "waited", record.fingerprint, record.number, outputs=outputs)  # it saved nobody the time
    journal.append(site.store, pipeline, run, moments, [use])


class Source(Protocol):
    """What is read once for all who wait for the same; it blocks."""

    def read(self, site: Site, since: str) -> None:
        """Read what is new, from a day on."""

    def judge(self, waiting: Waiting) -> Confirmed | None:
        """Return what came for somebody who waits, going by what was read."""


class Follower:
    """Reads the journal of a pipeline as it grows, each entry once.

    A look costs one listing, near midnight two: of the days that writers whose clock is off by an hour may write to. All
    days are listed the first time, and then every tenth time, for those whose clock is off by more.

    :param now: the time by the clock of this machine.
    """

    def __init__(self, pipeline: str, now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)) -> None:
        self._pipeline = pipeline
        self._now = now
        self._there: There = _nowhere
        self._since = ""
        self._looks = 0
        self._looked: datetime | None = None
        self._whole = True
        self._count = 0
        self._names: dict[str, set[str]] = {}
        self._endings: dict[str, list[Ending]] = defaultdict(list)
        self._last: dict[tuple[str, str], str] = {}

    def read(self, site: Site, since: str) -> None:
        """Read the entries that were written since the last look."""
        store, now = site.store, self._now()
        self._there = lru_cache(maxsize=None)(_there_in(site))  # asked once a look, for everybody
        if since != self._since:
            self._begin_at(since)
        for day in self._due(store, now):
            listed = set(journal.names(store, self._pipeline, day))
            for entry in journal.read(store, self._pipeline, day, listed - self._names.get(day, set())):
                self._add(entry)
            self._names[day] = listed
        self._looked, self._whole = now, False
        self._looks += 1

    def judge(self, waiting: Waiting) -> Confirmed | None:
        """Return the newest output that fits, among those that somebody has not considered yet."""
        step = waiting.wanted.step
        waiting.note_steps(self._endings)
        fresh = list(takewhile(lambda ending: ending.number > waiting.number, reversed(self._endings.get(step, []))))
        again = [waiting.lost] if waiting.lost else []
        for ending in sorted([*fresh, *again], key=lambda ending: ending.time, reverse=True):
            if ending.time >= self._last.get((step, ending.run), "") and (
                found := waiting.consider(ending, self._there)
            ):
                return found
        waiting.number = self._count
        waiting.check_names()
        return None

    def _due(self, store: Store, now: datetime) -> list[str]:
        """Return the days that may have new entries."""
        first, last = (self._looked or now) - SLACK, now + SLACK
        if not self._whole and self._looks % _THOROUGH:
            return [_day(first + timedelta(days=count)) for count in range((last.date() - first.date()).days + 1)]
        days = [day for day in journal.days(store, self._pipeline) if day >= self._since]
        return [day for day in days if day not in self._names or day >= _day(first) or day in days[-2:]]

    def _add(self, entry: journal.Entry) -> None:
        for use in entry.uses:
            self._count += 1
            ending = Ending(self._count, entry.pipeline, entry.run, entry.time, entry.moments, use)
            self._endings[use.step].append(ending)
            key = use.step, entry.run
            self._last[key] = max(self._last.get(key, ""), entry.time)

    def _begin_at(self, since: str) -> None:
        """Have earlier days read, too, or forget those that nobody needs any more."""
        self._whole = self._whole or since < self._since
        self._since = since
        self._names = {day: names for day, names in self._names.items() if day >= since}
        for step, endings in self._endings.items():
            self._endings[step] = [ending for ending in endings if ending.time >= since]
        kept = {(step, ending.run) for step, endings in self._endings.items() for ending in endings}
        self._last = {key: time for key, time in self._last.items() if key in kept}


class RecordWatch:
    """Reads the log of a fingerprint."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._log = Log(fingerprint, ())
        self._there: There = _nowhere

    def read(self, site: Site, since: str) -> None:  # noqa: ARG002 -- a log is read as a whole
        """Read the log."""
        self._log = Log.read(site.store, self._fingerprint)
        self._there = lru_cache(maxsize=None)(_there_in(site))

    def judge(self, waiting: Waiting) -> Confirmed | None:
        """Return the newest record whose outputs are there."""
        return waiting.consider_records(self._log, self._there)


def source_of(wanted: Wanted) -> Source:
    """Return what has to be read for what somebody waits for."""
    return RecordWatch(wanted.fingerprint) if wanted.fingerprint else Follower(wanted.pipeline)


def _nowhere(*_: object) -> str:
    return "nothing was read yet"


def _there_in(site: Site) -> There:
    """Return what looks for records, and checks that their outputs are there.

    Where the record that is named does not count any more, the newest one of the same fingerprint does: it was made anew
    of the same things.
    """

    def there(fingerprint: str, number: int, names: tuple[str, ...]) -> tuple[Record, Mapping[str, OutputRef]] | str:
        log = Log.read(site.store, fingerprint)
        problem = _voided(log, number)
        for record in sorted(log.records, key=lambda record: record.number != number):
            found = _outputs(site, record, names)
            if not isinstance(found, str):
                return record, found
            problem = found if record.number == number else problem
        return problem

    return there


def _voided(log: Log, number: int) -> str:
    reasons = (
        entry.data.get("reason") for entry in log.entries if entry.kind == "void" and entry.data["void"] == number
    )
    return f"its record was voided: {reason}" if (reason := next(reasons, None)) else "its record is gone"


def _outputs(site: Site, record: Record, names: tuple[str, ...]) -> dict[str, OutputRef] | str:
    """Return outputs of a record, or what is wrong with one of them."""
    if record.evicted:
        return "its outputs were given up for their room"
    try:
        outputs = outputs_of(record)
    except RecordFormatError as error:
        return str(error)
    for name in names or outputs:
        if name not in outputs:
            return f"its record has no output {name}"
        if lost := _lost(site, outputs[name]):
            return f"its output {name} is lost: {lost}"
    return outputs


def _lost(site: Site, output: OutputRef) -> str | None:
    """Return what is wrong with an output, or None.

    What a transfer copied is compared by content on the local disk, elsewhere by its version (rule 13).

    :raises StoreUnreachableError: if it is out of reach, which says nothing of what lies there (rule 10).
    """
    if output.token is None:
        return published.verify(site.store, output.path, output.content)
    try:
        fs, path = site.open_uri(output.path, output.datastore)
        token = token_now(fs, path)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError | DataError):
            return str(error)
        raise StoreUnreachableError(str(error)) from error
    same = site.holds(output.path, output.datastore, output.content) if is_local(fs) else token == output.token
    return None if same else f"{output.path} is no longer what was copied there"


def _endings(entry: journal.Entry, step: str) -> Iterable[Ending]:
    uses = (use for use in entry.uses if use.step == step)
    return (Ending(0, entry.pipeline, entry.run, entry.time, entry.moments, use) for use in uses)


def _day_before(moment: datetime) -> str:
    """Return the day with which to begin for what is not before a moment."""
    try:
        return _day(moment - MARGIN)
    except OverflowError:
        return ""


def _day(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime(_DAY)
