"""What commands print for people: the table of a run, of a plan, and the line below it."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import place_of
from airflow_mlpipe.cli.table import Column, duration, size, write_table
from airflow_mlpipe.planning.explain import summary
from airflow_mlpipe.planning.gate import RUN_IF, UPSTREAM

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlpipe.cli.report import RunReport, StepReport
    from airflow_mlpipe.runtime.protocol import OutputRef
    from airflow_mlpipe.store.store import Store

_STEP = Column("step", wraps=True)
_WHY = Column("why", wraps=True)
_TIME = Column("time", right=True)
_OUTPUTS = Column("outputs", wraps=True)
_METRICS = Column("metrics", wraps=True)

_WHOLE = 1e9
"""Greater numbers are shown as powers of ten."""

_AGAIN = "to have it made again, run the pipeline with --regenerate"


def write_json(data: Any) -> None:  # noqa: ANN401 -- any plain JSON data
    """Write JSON to standard output."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_run(report: RunReport) -> None:
    """Write the closing table of a run."""
    rows = [
        [step.step, step.outcome, why(step), _time(step), outputs(step.outputs), metrics(step.metrics)]
        for step in report.steps
    ]
    write_table([_STEP, Column("outcome", coloured=True), _WHY, _TIME, _OUTPUTS, _METRICS], rows)
    sys.stdout.write(f"\n{closing_line(report)}\n")


def write_plan(report: RunReport) -> None:
    """Write what a run would do."""
    rows = [[step.step, step.outcome, why(step)] for step in report.steps]
    write_table([_STEP, Column("decision", coloured=True), _WHY], rows)
    counts = _counts(
        report, {"reuse": "to reuse", "run": "to run", "depends": "to be decided later", "not_run": "not to run"}
    )
    sys.stdout.write(f"\n{report.pipeline}: {counts}\n")


def write_outputs(steps: Sequence[StepReport], store: Store) -> None:
    """Write where each output lies; nothing is wrapped, so that a path can be copied."""
    for step in steps:
        for name, output in step.outputs.items():
            place = f"evicted: {_AGAIN} {step.step}" if step.evicted else place_of(output, store)
            sys.stdout.write(f"{step.step}.{name}  {_amount(output)}\n  {place}\n")


def closing_line(report: RunReport) -> str:
    """Return a run in one line: how it ended, how many steps did what, and what reuse saved."""
    state = "succeeded" if report.state == "success" else "failed"
    counts = _counts(
        report, {name: name.replace("_", " ") for name in ("reused", "ran", "waited", "failed", "not_run")}
    )
    saved = sum(step.seconds or 0 for step in report.steps if step.outcome in {"reused", "waited"})
    gain = f"; reuse saved {duration(saved)}" if saved >= 1 else ""
    return f"{report.pipeline} {state}: {counts}{gain}"


def why(step: StepReport) -> str:
    """Return in one line why a step ended, or would end, as it does."""
    match step.outcome:
        case "reused" | "reuse":
            gone = "; its outputs were evicted" if step.evicted else ""
            return f"unchanged since {when(step.made_by.get('run', 'an earlier run'))}{gone}"
        case "failed":
            return _first_line(step.error or "it failed")
        case "not_run":
            return "; ".join(reason.what for reason in step.reasons if reason.component in {RUN_IF, UPSTREAM})
        case "depends":
            refused = "".join(f"; {reason.what}" for reason in step.reasons if reason.component == RUN_IF)
            return "on " + ", ".join(step.depends_on) + refused
        case _:
            return summary(step.causes)


def when(run: str) -> str:
    """Return the local time of a run whose id tells it, without the date if that is today; else the id."""
    kind, _, text = run.partition("__")
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except ValueError:
        return run
    today = moment.date() == datetime.now().astimezone().date()
    shown = moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")
    return shown if kind == "manual" else f"{shown} ({kind})"


def outputs(named: Mapping[str, OutputRef]) -> str:
    """Return outputs in one line, each with its size."""
    return ", ".join(f"{name} ({_amount(output)})" for name, output in named.items())


def metrics(named: Mapping[str, float]) -> str:
    """Return metrics in one line: whole numbers as they are, others rounded."""
    return ", ".join(f"{name} {_number(value)}" for name, value in named.items())


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < _WHOLE else f"{value:.4g}"


def _first_line(error: str) -> str:
    """Return what an error says first; the lines that it announces are shown below the table."""
    return error.splitlines()[0].removesuffix("; its last lines:")


def _amount(output: OutputRef) -> str:
    content = output.content
    return size(content.size) if content.kind == "file" else f"{content.files} files, {size(content.size)}"


def _time(step: StepReport) -> str:
    return duration(step.seconds) if step.outcome in {"ran", "failed"} else ""


def _counts(report: RunReport, words: Mapping[str, str]) -> str:
    counts = {word: report.count(outcome) for outcome, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no steps"
