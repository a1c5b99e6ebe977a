"""Whether the files that a pipeline names are there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.faults import Fault, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions.pipeline import Pipeline
    from airflow_mlpipe.definitions.steps import Step

MAX_LOOKED_AT = 2000


def file_faults(pipeline: Pipeline) -> Iterator[Fault]:
    """Yield every source directory, script and requirements file that is not there, with what is like it."""
    seen: dict[Path, bool] = {}
    yield from _requirements(pipeline.environment, pipeline.folder, ())
    for step in pipeline.steps:
        at = ("steps", step.name)
        yield from _requirements(step.environment, pipeline.folder, at)
        directory = pipeline.source_directory(step)
        if directory is None:
            continue
        if directory not in seen:
            seen[directory] = directory.is_dir()
        if not seen[directory]:
            yield _no_directory(directory, (*at, "source_directory"))
        else:
            yield from _missing(step, directory)


def _requirements(environment: object, folder: Path, at: tuple[str, ...]) -> Iterator[Fault]:
    if not isinstance(environment, Environment):
        return
    path = environment.requirements_path(folder)
    if path is not None and not path.is_file():
        remedy = _suggestion(path.name, path.parent) if path.parent.is_dir() else ""
        yield Fault((*at, "environment", "requirements_file"), f"is not there: {path}", remedy, path.name)


def _no_directory(directory: Path, path: tuple[str, ...]) -> Fault:
    if directory.exists():
        return Fault(path, f"is no directory: {directory}", "Give the folder that holds the file", directory.name)
    parent = directory.parent
    names = [child.name for child in parent.iterdir() if child.is_dir()] if parent.is_dir() else []
    near = nearest(directory.name, names)
    remedy = f"Did you mean {near}?" if near else "Relative paths start at the folder of the definition"
    return Fault(path, f"is not there: {directory}", remedy, directory.name)


def _missing(step: Step, directory: Path) -> Iterator[Fault]:
    for field in (step.script_field, "hostfile"):
        name = None if field is None else getattr(step, field, None)
        if name is not None and not (directory / name).is_file():
            message = f"is not there: {directory / name}"
            yield Fault(("steps", step.name, str(field)), message, _suggestion(name, directory), name)


def _suggestion(name: str, directory: Path) -> str:
    """Return the file most like a name, in a folder or below it."""
    files = list(_below(directory))
    near = next((file for file in files if Path(file).name == Path(name).name), None) or nearest(name, files)
    if near:
        return f"Did you mean {near}?"
    scripts = [file for file in files if file.endswith(Path(name).suffix)][:5]
    return "There are: " + ", ".join(scripts) if scripts else "There is no file like it"


def _below(directory: Path) -> Iterator[str]:
    count = 0
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for file in sorted(files):
            count += 1
            if count > MAX_LOOKED_AT:
                return
            yield (Path(folder) / file).relative_to(directory).as_posix()
