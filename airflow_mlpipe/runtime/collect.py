"""What a command left in ``outputs/``: all that was declared, of the declared kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import OutputMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_mlpipe.runtime.layout import StepDirectory
    from airflow_mlpipe.runtime.protocol import OutputSpec


def check_outputs(directory: StepDirectory, declared: Mapping[str, OutputSpec], say: Callable[[str], None]) -> None:
    """Make sure that every declared output was written; say which others there are.

    A folder with no file in it counts as unwritten.

    :raises OutputMissingError: if one was not, or is a folder instead of a file or the reverse; all of them at once.
    """
    problems = [
        problem
        for name, output in declared.items()
        if (problem := _problem(directory.outputs / name, name, output)) is not None
    ]
    present = sorted(path.name for path in directory.outputs.iterdir())
    if problems:
        there = ", ".join(present) or "nothing"
        message = (
            f"the command succeeded, but {'; '.join(problems)}. In outputs/ there is: {there}. "
            "The script finds the path to write to in MLPIPE_OUTPUT_<NAME>, or as ${{ outputs.<name> }} among its arguments"
        )
        raise OutputMissingError(message)
    for name in present:
        if name not in declared:
            say(f"warning: the command wrote outputs/{name}, which is not a declared output; it is not kept")


def _problem(path: Path, name: str, output: OutputSpec) -> str | None:
    if not os.path.lexists(path):
        return f"output {name!r} was not written"
    if path.is_dir() and not _has_file(path):
        return f"output {name!r} is a folder with no file in it, which counts as not written"
    kind = "folder" if path.is_dir() else "file"
    if output.kind not in {None, kind}:
        return f"output {name!r} is a {kind}, and was declared as a {output.kind}"
    return None


def _has_file(folder: Path) -> bool:
    return any(
        files or any(os.path.islink(os.path.join(parent, name)) for name in folders)  # noqa: PTH114, PTH118 -- many
        for parent, folders, files in os.walk(folder)
    )
