"""DAG files as Airflow's dag-processor sees them: parsed, serialized, and what is wrong with them by file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.processor import _serialize_dags
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from structlog import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Parsed:
    """What came of a DAG file: its DAGs by id, and import errors by file."""

    dags: Mapping[str, Any] = field(default_factory=dict)
    serialized: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)


def parse(file: Path, text: str | None = None) -> Parsed:
    """Parse a DAG file; its folder is the bundle.

    :param text: what to write there before.
    """
    if text is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# airflow dag\n{text}")
    bag = DagBag(dag_folder=file.parent, collect_dags=False, bundle_path=file.parent)
    bag.process_file(str(file), only_if_updated=False)
    serialized, errors = _serialize_dags(bag, get_logger())
    return Parsed(bag.dags, tuple(sorted(dag.dag_id for dag in serialized)), {**bag.import_errors, **errors})


def dag_in(folder: Path, dag_id: str = "d", **given: Any) -> DAG:
    """Return a DAG as a DAG file of that folder makes it."""
    dag = DAG(dag_id, schedule=None, **given)
    dag.fileloc = str(folder / "dag.py")
    return dag


def serialized(dag: DAG) -> dict[str, Any]:
    """Return what Airflow keeps of a DAG."""
    return dict(DagSerialization.to_dict(dag)["dag"])


def tasks(dag: DAG) -> dict[str, dict[str, Any]]:
    """Return what Airflow keeps of each task of a DAG, by id."""
    return {task["__var"]["task_id"]: task["__var"] for task in serialized(dag)["tasks"]}
