"""``mlpipe outputs``: where the outputs of a run are, and copies of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.cli.report import output_to_json, uri_of
from airflow_mlpipe.exceptions import DataError
from airflow_mlpipe.store.outputs import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from airflow_mlpipe.cli.report import RunReport, StepReport
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef


def to_json(report: RunReport, steps: Sequence[StepReport], site: Site) -> dict[str, Any]:
    """Return the outputs as plain JSON data."""
    return {
        "pipeline": report.pipeline,
        "run_id": report.run_id,
        "steps": [
            {
                "step": step.step,
                "outcome": step.outcome,
                "outputs": {name: output_to_json(output, site.store) for name, output in step.outputs.items()},
            }
            for step in steps
        ],
    }


def copy(steps: Sequence[StepReport], site: Site, folder: Path) -> list[Path]:
    """Copy the outputs of steps to ``folder/<step>/<output>``.

    :raises DataError: if there is something already, or an output is gone; then nothing more is copied.
    """
    wanted = {folder / step.step / name: output for step in steps for name, output in step.outputs.items()}
    if there := [str(path) for path in wanted if path.exists()]:
        message = f"there is something already at {', '.join(there)}: remove it, or name another folder"
        raise DataError(message)
    for path, output in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        fs, source = _open(output, site)
        try:
            fetch(fs, source, path, link=False, content=output.content)
        except FileNotFoundError as error:
            step, place = path.parent.name, uri_of(output, site.store)
            message = f"the output {step}.{path.name} is gone from {place}: run the pipeline with --regenerate {step}"
            raise DataError(message) from error
    return list(wanted)


def _open(output: OutputRef, site: Site) -> Any:  # noqa: ANN401 -- a filesystem and a path
    return site.open_uri(uri_of(output, site.store), output.datastore)
