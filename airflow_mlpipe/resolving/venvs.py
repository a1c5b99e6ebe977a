"""Virtual environments, built once for each lock and interpreter, in the user's cache folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.resolving.interpreters import identify
from airflow_mlpipe.resolving.user_cache import alone, cache_folder
from airflow_mlpipe.resolving.uv_command import run_uv

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_COMPLETE = "mlpipe-complete.txt"
"""Written last; an environment without it is built again."""


def build(lock_text: str, interpreter: str) -> Path:
    """Return the Python of a virtual environment that holds exactly what a lock says, building it if there is none.

    Processes that ask for the same one at the same time build it once.

    :param interpreter: the path of the Python it is made from.
    :raises EnvironmentBuildError: if it cannot be built, with uv's own last lines.
    """
    place = cache_folder() / "envs" / environment_name(lock_text, interpreter)
    if not _is_complete(place):
        with alone(place.with_name(f"{place.name}.lock")) as held:
            if not _is_complete(place):
                _build(place, lock_text, interpreter, (held,))
    return _python(place)


def environment_name(lock_text: str, interpreter: str) -> str:
    """Return the name of the folder of an environment: a digest of its lock and of which Python it is made from."""
    return fingerprint({"lock": lock_text, "interpreter": identify(interpreter).build})[:40]


def _build(place: Path, lock_text: str, interpreter: str, held: Sequence[int]) -> None:
    _remove(place)
    what = f"build the environment in {place}"
    try:
        run_uv(("venv", "--quiet", "--no-project", "--python", interpreter, str(place)), what, held=held)
        install = ("pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", str(_python(place)))
        run_uv((*install, "--requirements", "-"), what, given=lock_text, held=held)
        (place / _COMPLETE).write_text(lock_text, encoding="utf-8")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # what it leaves is incomplete, and removed by the next attempt
        raise


def _remove(place: Path) -> None:
    try:
        if place.exists():
            shutil.rmtree(place)
    except OSError as error:
        message = f"an incomplete environment cannot be removed ({error}): remove {place} by hand"
        raise EnvironmentBuildError(message) from error


def _is_complete(place: Path) -> bool:
    """Tell whether an environment was built to the end, and its Python is still there."""
    return (place / _COMPLETE).exists() and _python(place).exists()


def _python(place: Path) -> Path:
    return place / "bin" / "python"
