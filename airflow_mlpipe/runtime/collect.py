"""What a command left in ``outputs/``: all that was declared, of the declared kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import OutputMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_mlpipe.runtime.layout import StepDirectory
    from airflow_mlpipe.runtime.protocol import DistributionSpec, OutputSpec

REPLACED = "the command removed outputs/, or put something else in its place; leave the folder, and write into it"


def check_outputs(
    directory: StepDirectory,
    declared: Mapping[str, OutputSpec],
    say: Callable[[str], None],
    distribution: DistributionSpec | None = None,
) -> None:
    """Make sure that every declared output was written; say which others there are.

    A folder with no file in it counts as unwritten. Where each of many ranks has outputs of its own, all have to be there.

    :raises OutputMissingError: if one was not, or is a folder instead of a file or the reverse; all of them at once.
        Also if ``outputs/`` itself is not there any more, or is a link, which may lead to what only this process may read.
    """
    if directory.outputs.is_symlink() or not directory.outputs.is_dir():
        raise OutputMissingError(REPLACED)
    problems = [
        problem
        for name, output in declared.items()
        for part, which in _parts(name, distribution)
        if (problem := _problem(directory.outputs / part, which, output)) is not None
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


def _parts(name: str, distribution: DistributionSpec | None) -> list[tuple[str, str]]:
    """Return the paths that make an output, each with what it is called."""
    if distribution is None or distribution.outputs != "each":
        return [(name, f"output {name!r}")]
    count = distribution.nodes * distribution.processes
    return [(f"{name}/{rank}", f"output {name!r} of rank {rank}") for rank in range(count)]


def _problem(path: Path, which: str, output: OutputSpec) -> str | None:
    if not os.path.lexists(path):
        return f"{which} was not written"
    if path.is_dir() and not _has_file(path):
        return f"{which} is a folder with no file in it, which counts as not written"
    kind = "folder" if path.is_dir() else "file"
    if output.kind not in {None, kind}:
        return f"{which} is a {kind}, and was declared as a {output.kind}"
    return None


def _has_file(folder: Path) -> bool:
    return any(
        files or any(os.path.islink(os.path.join(parent, name)) for name in folders)  # noqa: PTH114, PTH118 -- many
        for parent, folders, files in os.walk(folder)
    )
