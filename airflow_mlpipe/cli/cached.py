"""What ``mlpipe cache`` prints: for people as tables, for programs as plain data."""

from __future__ import annotations

import sys
from datetime import date, datetime, timezone
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import output_to_json
from airflow_mlpipe.cli.table import Column, duration, size, write_table
from airflow_mlpipe.definitions.faults import did_you_mean
from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.store import runs
from airflow_mlpipe.store.pins import Pin
from airflow_mlpipe.store.pins import read as read_pins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_mlpipe.cli.auditing import Audited
    from airflow_mlpipe.resolving.inventory import Inventory, Item
    from airflow_mlpipe.resolving.leftovers import Leftover
    from airflow_mlpipe.resolving.retention import Choice, Guard, Policy, Pruning, Survey
    from airflow_mlpipe.resolving.savings import Saved
    from airflow_mlpipe.resolving.verifying import Verified
    from airflow_mlpipe.store.store import Store

_SHORT = 12
_SHOWN_USES = 10

_STEP = Column("step", wraps=True)
_SIZE_COLUMN = Column("size", right=True)
_USED = Column("last used")
_WHY = Column("why", wraps=True)


def chosen(inventory: Inventory, what: str) -> Sequence[Item]:
    """Return the records of a pipeline, or those that `Inventory.find` finds."""
    return [item for item in inventory.items if item.step[0] == what] or inventory.find(what)


def groups(items: Iterable[Item]) -> list[dict[str, Any]]:
    """Return the records of each step, added up, in the order of names."""
    ordered = sorted(items, key=lambda item: item.step)
    return [_group(step, list(group)) for step, group in groupby(ordered, key=lambda item: item.step)]


def _group(step: tuple[str, str], items: Sequence[Item]) -> dict[str, Any]:
    newest = items[0]  # they came newest first, and sorting keeps that
    return {
        "pipeline": step[0],
        "step": step[1],
        "records": len(items),
        "evicted": sum(item.record.evicted for item in items),
        "size": sum(item.size for item in items),
        "last_used": max(item.last_used for item in items),
        "made_by": newest.made_by.get("run"),
        "seconds": newest.seconds,
    }


def record(item: Item) -> dict[str, Any]:
    """Return one record in short."""
    return {
        "pipeline": item.step[0],
        "step": item.step[1],
        "fingerprint": item.fingerprint,
        "number": item.record.number,
        "evicted": item.record.evicted,
        "size": item.size,
        "made": item.record.time,
        "made_by": item.made_by.get("run"),
        "seconds": item.seconds,
        "last_used": item.last_used,
        "uses": len(item.uses),
    }


def details(found: Sequence[Item], store: Store) -> dict[str, Any]:
    """Return all that is known of the first of some records."""
    item = found[0]
    body = item.record.body
    outputs = item.outputs or {}
    return {
        **record(item),
        "components": body.get("components", {}),
        "observed": body.get("observed", {}),
        "outputs": {name: output_to_json(output, store) for name, output in outputs.items()},
        "metrics": body.get("metrics", {}),
        "used_by": [vars(use) for use in item.uses],
        "other_records": len(found) - 1,
    }


def lines_of(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person wants to read of a record."""
    yield f"{data['pipeline']}.{data['step']}  {data['fingerprint']}"
    yield f"  made {moment(data['made'])} by {data['made_by']} in {duration(data['seconds'])}"
    for name, value in data["components"].items():
        if value:
            yield f"  {name}: {_shown(value)}"
    if data["observed"]:
        yield f"  software: {_shown(data['observed'])}"
    for name, output in data["outputs"].items():
        yield f"  output {name}: {size(output['size'])}, {_plural(output['files'], 'file')}, {output['digest']}"
        yield f"    {'evicted' if data['evicted'] else output['uri'].removeprefix('file://')}"
    for name, value in data["metrics"].items():
        yield f"  metric {name}: {value}"
    for use in data["used_by"][:_SHOWN_USES]:
        yield f"  {use['outcome']} {moment(use['time'])} by {use['pipeline']}.{use['step']} in {use['run']}"
    if (more := len(data["used_by"]) - _SHOWN_USES) > 0:
        yield f"  and {more} more uses"
    if data["other_records"]:
        other = _plural(data["other_records"], "earlier record")
        yield f"  {other}: mlpipe cache ls {data['pipeline']}.{data['step']}"


def _shown(value: Any) -> str:  # noqa: ANN401 -- a component of any kind
    match value:
        case dict():
            return ", ".join(f"{name}={_shown(item)}" for name, item in value.items())
        case list():
            return " ".join(
                "".join(_shown(part) for part in item) if isinstance(item, list) else _shown(item) for item in value
            )
        case _:
            return str(value)


def write_groups(rows: Sequence[Mapping[str, Any]], unreadable: Mapping[str, str]) -> None:
    """Write the records of each step, and what cannot be read."""
    columns = [
        _STEP,
        Column("records", right=True),
        _SIZE_COLUMN,
        _USED,
        Column("made by", wraps=True),
        Column("time", right=True),
    ]
    write_table(
        columns,
        [
            [
                f"{row['pipeline']}.{row['step']}",
                f"{row['records']}" + (f" ({row['evicted']} evicted)" if row["evicted"] else ""),
                size(row["size"]),
                moment(row["last_used"]),
                str(row["made_by"]),
                duration(row["seconds"]),
            ]
            for row in rows
        ],
    )
    count, total = sum(row["records"] for row in rows), sum(row["size"] for row in rows)
    sys.stdout.write(f"\n{_plural(count, 'record')}, {size(total)}\n")
    for message in unreadable.values():
        sys.stdout.write(f"{message}\n")


def write_records(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write records one by one."""
    columns = [
        _STEP,
        Column("record"),
        _SIZE_COLUMN,
        Column("made"),
        _USED,
        Column("uses", right=True),
        Column("time", right=True),
    ]
    write_table(
        columns,
        [
            [
                f"{row['pipeline']}.{row['step']}",
                row["fingerprint"][:_SHORT],
                "evicted" if row["evicted"] else size(row["size"]),
                moment(row["made"]),
                moment(row["last_used"]),
                str(row["uses"]),
                duration(row["seconds"]),
            ]
            for row in rows
        ],
    )


def usage(survey: Survey) -> dict[str, Any]:
    """Return what takes up how much room."""
    rows = [row for row in groups(survey.inventory.items) if row["size"]]
    kept = ("pipeline", "step", "records", "size")
    left = sorted(survey.leftovers, key=lambda leftover: leftover.kind)
    return {
        "steps": [
            {name: row[name] for name in kept} for row in sorted(rows, key=lambda row: row["size"], reverse=True)
        ],
        "leftovers": [
            {"kind": kind, "count": len(found), "size": sum(each.size for each in found)}
            for kind, found in ((kind, list(group)) for kind, group in groupby(left, lambda each: each.kind))
        ],
        "size": sum(survey.listing.files.values()),
    }


_LEFTOVERS = {
    "outputs": "outputs whose record was voided, evicted or never made",
    "unknown": "outputs that no log knows of",
    "beats": "signs of life of claims that have ended",
    "work": "directories of steps that have ended",
    "snapshots": "code and locks that no record and no run names",
}


def write_usage(data: Mapping[str, Any]) -> None:
    """Write what takes up how much room."""
    rows = [[f"{row['pipeline']}.{row['step']}", str(row["records"]), size(row["size"])] for row in data["steps"]]
    rows += [[_LEFTOVERS[row["kind"]], str(row["count"]), size(row["size"])] for row in data["leftovers"]]
    write_table([Column("what", wraps=True), Column("number", right=True), _SIZE_COLUMN], rows)
    sys.stdout.write(f"\n{size(data['size'])} altogether, with code and steps that run\n")


def pruning_to_json(pruning: Pruning, *, done: bool) -> dict[str, Any]:
    """Return what goes, what is kept though the policy names it, and what is removed now or next time."""
    return {
        "done": done,
        "records": [{**record(choice.item), "why": choice.why} for choice in pruning.going],
        "kept": [{**record(choice.item), "why": choice.why, "kept": choice.kept} for choice in pruning.kept],
        "removed": [vars(leftover) for leftover in pruning.removed],
        "leftovers": [vars(leftover) for leftover in pruning.condemned],
        "unreadable": list(pruning.unreadable),
    }


def write_pruning(pruning: Pruning, policy: Policy, guard: Guard, *, done: bool) -> None:
    """Write what goes and why, and what comes next."""
    if pruning.going:
        write_table([_STEP, Column("record"), _SIZE_COLUMN, _USED, _WHY], map(_choice, pruning.going))
        sys.stdout.write("\n")
    if pruning.kept:
        columns = [Column("kept", wraps=True), Column("record"), _WHY]
        rows = [[choice.item.name, choice.item.fingerprint[:_SHORT], str(choice.kept)] for choice in pruning.kept]
        write_table(columns, rows)
        sys.stdout.write("\n")
    sys.stdout.write("\n".join(_sums(pruning, policy, guard, done=done)) + "\n")


def _choice(choice: Choice) -> list[str]:
    item = choice.item
    return [item.name, item.fingerprint[:_SHORT], size(item.size), moment(item.last_used), choice.why]


def _sums(pruning: Pruning, policy: Policy, guard: Guard, *, done: bool) -> Iterator[str]:
    going = sum(choice.item.size for choice in pruning.going)
    verb = "evicted" if policy.evict else "voided"
    would = "" if done else "would be "
    yield f"{_plural(len(pruning.going), 'record')} {would}{verb}, {size(going)}"
    if pruning.kept:
        yield f"{_plural(len(pruning.kept), 'record')} stay, since somebody refers to them"
    yield f"{_amount(pruning.removed)} {would}removed, which nobody has needed for the grace time"
    if pruning.condemned:
        yield f"{_amount(pruning.condemned)} nobody needs now; they go if that is still so later"
    yield from pruning.unreadable
    if not done:
        yield "nothing was changed: give --yes to do it"
    elif (pruning.going or pruning.condemned) and guard.grace:
        yield f"prune again in {duration(guard.grace.total_seconds())} or later to have the room"


def _amount(found: Sequence[Leftover]) -> str:
    return f"{_plural(len(found), 'leftover')}, {size(sum(each.size for each in found))},"


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
        [pin.fingerprint[:_SHORT] or f"{pin.pipeline} / {pin.run}", moment(pin.time) if pin.time else "", pin.note]
        for pin in pins
    ]
    if rows:
        write_table([Column("pinned", wraps=True), Column("since"), Column("note", wraps=True)], rows)
    else:
        sys.stdout.write("nothing is pinned\n")


def verified_to_json(verified: Verified, *, voided: bool) -> dict[str, Any]:
    """Return what was looked at and what is damaged."""
    return {
        "records": verified.records,
        "digests": verified.digests,
        "elsewhere": verified.elsewhere,
        "damaged": [{**record(damage.item), "what": damage.what, "voided": voided} for damage in verified.damaged],
    }


def write_verified(verified: Verified, *, voided: bool) -> None:
    """Write what is damaged."""
    if verified.damaged:
        rows = [[each.item.name, each.item.fingerprint[:_SHORT], each.what] for each in verified.damaged]
        write_table([_STEP, Column("record"), Column("damage", wraps=True)], rows)
        sys.stdout.write("\n")
    read = f", {verified.digests} of them by digest" if verified.digests else ""
    elsewhere = f"; {verified.elsewhere} have no outputs in the store" if verified.elsewhere else ""
    what = "voided" if voided else "damaged"
    sys.stdout.write(
        f"{_plural(verified.records, 'record')} looked at{read}, {len(verified.damaged)} {what}{elsewhere}\n"
    )


def write_audited(audited: Sequence[Audited], left_out: Sequence[str]) -> None:
    """Write which steps made the same again."""
    rows = [[each.step, _verdict(each), duration(each.seconds) if each.error is None else ""] for each in audited]
    if rows:
        write_table([_STEP, Column("verdict", wraps=True), Column("time", right=True)], rows)
        sys.stdout.write("\n")
    for line in left_out:
        sys.stdout.write(f"not run again: {line}\n")
    same = sum(not each.differing and each.error is None for each in audited)
    sys.stdout.write(f"{_plural(len(audited), 'step')} run again, {same} made the same\n")


def _verdict(audited: Audited) -> str:
    if audited.error is not None:
        return f"failed: {audited.error.splitlines()[0]}"
    if audited.differing:
        return f"nondeterministic: {', '.join(audited.differing)} came out otherwise"
    return "the same"


def say(text: str) -> None:
    """Tell the user what is being done."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_savings(lines: Sequence[Saved], by: str) -> None:
    """Write what was saved."""
    columns = [
        Column(by, wraps=True),
        Column("reused", right=True),
        Column("ran", right=True),
        Column("saved", right=True),
    ]
    write_table(columns, [[line.name, str(line.reused), str(line.ran), duration(line.seconds)] for line in lines])
    reused, seconds = sum(line.reused for line in lines), sum(line.seconds for line in lines)
    sys.stdout.write(f"\n{_plural(reused, 'step')} reused; that saved {duration(seconds)}\n")


def moment(time: str) -> str:
    """Return the local time of an ISO timestamp, without the date if that is today."""
    local = datetime.fromisoformat(time).astimezone()
    today = local.date() == datetime.now(timezone.utc).astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d")


def read_day(text: str) -> str:
    """Return a day as the journal names it.

    :raises MlpipeError: if it is none.
    """
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        message = f"--since must be a day such as 2025-01-31, given: {text!r}"
        raise MlpipeError(message) from None


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
