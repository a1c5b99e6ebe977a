"""Records: of all steps, one by one, and all that is known of one."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import output_to_json
from airflow_mlpipe.cli.table import Column, duration, moment, plural, size, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow_mlpipe.resolving.inventory import Inventory, Item
    from airflow_mlpipe.store.store import Store

SHORT = 12
"""How many characters of a fingerprint people are shown."""

STEP = Column("step", wraps=True)
SIZE = Column("size", right=True)
USED = Column("last used")

_SHOWN_USES = 10


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
        yield f"  output {name}: {size(output['size'])}, {plural(output['files'], 'file')}, {output['digest']}"
        yield f"    {'evicted' if data['evicted'] else output['uri'].removeprefix('file://')}"
    for name, value in data["metrics"].items():
        yield f"  metric {name}: {value}"
    for use in data["used_by"][:_SHOWN_USES]:
        yield f"  {use['outcome']} {moment(use['time'])} by {use['pipeline']}.{use['step']} in {use['run']}"
    if (more := len(data["used_by"]) - _SHOWN_USES) > 0:
        yield f"  and {more} more uses"
    if data["other_records"]:
        other = plural(data["other_records"], "earlier record")
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
        STEP,
        Column("records", right=True),
        SIZE,
        USED,
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
    sys.stdout.write(f"\n{plural(count, 'record')}, {size(total)}\n")
    for message in unreadable.values():
        sys.stdout.write(f"{message}\n")


def write_records(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write records one by one."""
    columns = [
        STEP,
        Column("record"),
        SIZE,
        Column("made"),
        USED,
        Column("uses", right=True),
        Column("time", right=True),
    ]
    write_table(
        columns,
        [
            [
                f"{row['pipeline']}.{row['step']}",
                row["fingerprint"][:SHORT],
                "evicted" if row["evicted"] else size(row["size"]),
                moment(row["made"]),
                moment(row["last_used"]),
                str(row["uses"]),
                duration(row["seconds"]),
            ]
            for row in rows
        ],
    )
