"""What a commit holds: everything a later run wants to know of a finished step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.runtime.protocol import dump, load_output
from airflow_mlpipe.store.journal import Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.runtime.protocol import OutputRef, StepResult, StepSpec
    from airflow_mlpipe.store.log import Record

FORMAT = 1


def make_body(spec: StepSpec, result: StepResult, made_by: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of a commit.

    :param made_by: ``pipeline``, ``run`` and ``step`` that ran it.
    """
    return {
        "body": FORMAT,
        "components": components(spec),
        "spec": dump(spec),
        "outputs": {name: dump(output) for name, output in result.outputs.items()},
        "metrics": dict(result.metrics),
        "observed": dict(result.observed),
        "seconds": result.seconds,
        "made_by": dict(made_by),
    }


def outputs_of(record: Record) -> dict[str, OutputRef]:
    """Return the outputs a record names.

    :raises RecordFormatError: if a newer version wrote the record, or it is damaged.
    """
    version = record.body.get("body")
    if isinstance(version, int) and version > FORMAT:
        message = (
            f"record {record.number} of fingerprint {record.fingerprint} has format {version}, written by a newer "
            f"airflow-mlpipe; this one reads up to {FORMAT}: upgrade it"
        )
        raise RecordFormatError(message)
    try:
        return {name: load_output(data) for name, data in record.body["outputs"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        message = f"record {record.number} of fingerprint {record.fingerprint} is damaged: {error!r}"
        raise RecordFormatError(message) from error


def found(record: Record, outputs: Mapping[str, OutputRef], undelivered: tuple[str, ...] = ()) -> Found:
    """Return a record as the planner sees it."""
    return Found(
        number=record.number,
        outputs=outputs,
        metrics=record.body.get("metrics", {}),
        seconds=record.body.get("seconds", 0.0),
        made_by=record.body.get("made_by", {}),
        undelivered=undelivered,
    )


def use_of(spec: StepSpec, outcome: str, fingerprint: str, record: Found) -> Use:
    """Return what the journal keeps of a step that ended with a record."""
    return Use(
        step=spec.step,
        outcome=outcome,
        fingerprint=fingerprint,
        number=record.number,
        seconds=record.seconds,
        outputs={name: dump(output) for name, output in record.outputs.items()},
        metrics=dict(record.metrics),
        parameters=dict(spec.parameters),
    )


def was_made_by(record: Record, pipeline: str, run: str) -> bool:
    """Say whether a run of a pipeline committed this record."""
    made_by = record.body.get("made_by", {})
    return bool(made_by.get("pipeline") == pipeline and made_by.get("run") == run)
