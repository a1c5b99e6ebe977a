"""Checks: whether outputs are whole, and whether steps make the same again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.cached.records import SHORT, STEP, record
from airflow_mlpipe.cli.table import Column, duration, plural, write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_mlpipe.cli.auditing import Audited
    from airflow_mlpipe.resolving.verifying import Verified


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
        rows = [[each.item.name, each.item.fingerprint[:SHORT], each.what] for each in verified.damaged]
        write_table([STEP, Column("record"), Column("damage", wraps=True)], rows)
        sys.stdout.write("\n")
    read = f", {verified.digests} of them by digest" if verified.digests else ""
    elsewhere = f"; {verified.elsewhere} have no outputs in the store" if verified.elsewhere else ""
    what = "voided" if voided else "damaged"
    sys.stdout.write(
        f"{plural(verified.records, 'record')} looked at{read}, {len(verified.damaged)} {what}{elsewhere}\n"
    )


def write_audited(audited: Sequence[Audited], left_out: Sequence[str]) -> None:
    """Write which steps made the same again."""
    rows = [[each.step, _verdict(each), duration(each.seconds) if each.error is None else ""] for each in audited]
    if rows:
        write_table([STEP, Column("verdict", wraps=True), Column("time", right=True)], rows)
        sys.stdout.write("\n")
    for line in left_out:
        sys.stdout.write(f"not run again: {line}\n")
    same = sum(not each.differing and each.error is None for each in audited)
    sys.stdout.write(f"{plural(len(audited), 'step')} run again, {same} made the same\n")


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
