"""``mlpipe init``: a small project that works, to change into one's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.abc import Traversable

PIPELINE = Path("pipelines/temperature.yaml")

_SUFFIX = ".in"
_DOT = "dot-"


def make_project(folder: Path) -> list[Path]:
    """Write the project into a folder, which is made if it is not there, and return the files.

    :raises MlpipeError: if one of them is there already; then nothing is written.
    """
    content = dict(_template())
    if there := [str(folder / path) for path in content if (folder / path).exists()]:
        message = f"there is something already at {', '.join(there)}: name another folder, as in mlpipe init DIR"
        raise MlpipeError(message)
    for path, text in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return [folder / path for path in content]


def _template() -> Iterator[tuple[Path, str]]:
    return _below(files("airflow_mlpipe.cli") / "template", Path())


def _below(source: Traversable, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of the template as it shall be called, with its text."""
    for item in sorted(source.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _below(item, folder / item.name)
        else:
            name = item.name.removesuffix(_SUFFIX)
            yield folder / (f".{name.removeprefix(_DOT)}" if name.startswith(_DOT) else name), item.read_text("utf-8")
