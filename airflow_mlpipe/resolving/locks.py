"""Locks: which exact versions requirements stand for, kept in ``mlpipe.lock`` beside the definition.

``mlpipe lock`` writes it; planning only reads it, so a new release on the package index changes nothing by itself.
The file is JSON with one entry for each set of requirements, Python version and platform, sorted for readable diffs.
It holds names and versions, never an index, a credential or a path of the machine that wrote it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.resolving.interpreters import Interpreter, identify
from airflow_mlpipe.resolving.user_cache import alone, cache_folder
from airflow_mlpipe.resolving.uv_command import run_uv, without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

LOCK_FILE = "mlpipe.lock"
FORMAT = 1

_LOCAL = re.compile(
    r"(\.{0,2}/|\.{1,2}\Z|~|file:)|.*@\s*(file:|\.{0,2}/)|[^:]*\.(whl|zip|tar\.\w+|tgz)\Z", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"://(?!git@)[^/\s@]+@")
_OPTION = re.compile(r"-|.*\s--?\w")
_COMMENT = re.compile(r"(^|\s)#.*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_UNNAMED = "`mlpipe lock FILE` with the file of the pipeline"
_VERSION = re.compile(r"\d+\.\d+\Z")


@dataclass(frozen=True)
class Locked:
    """What locking one environment did; ``old`` is None where it had no lock. Locks are lists of lines."""

    requirements: tuple[str, ...]
    python: str
    platform: str
    old: tuple[str, ...] | None
    new: tuple[str, ...]

    @property
    def differences(self) -> dict[str, tuple[str | None, str | None]]:
        """The distributions whose version changed, appeared or went: name -> (old, new)."""
        old, new = versions(self.old or ()), versions(self.new)
        return {name: (old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)}


def checked_requirements(lines: Iterable[str]) -> tuple[str, ...]:
    """Return requirements without comments, each once, sorted; their order never mattered.

    :raises EnvironmentBuildError: for what no lock can pin for another machine: options of pip, local paths, URLs
        with credentials. All of them come at once.
    """
    joined = "\n".join(lines).replace("\\\n", " ")
    plain = [" ".join(_COMMENT.sub("", line).split()) for line in joined.splitlines()]
    requirements = sorted({line for line in plain if line}, key=lambda line: (line.lower(), line))
    if problems := [problem for line in requirements if (problem := _problem(line))]:
        raise EnvironmentBuildError("requirements that cannot be locked:\n" + "\n".join(problems))
    return tuple(requirements)


def find_lock(folder: Path, requirements: Iterable[str], interpreter: str) -> str | None:
    """Return the text of the lock of an environment, or None if it has none yet.

    :param folder: where the lock file lies.
    :param interpreter: the path of a Python, or the version of one in an image, such as ``3.12``.
    :raises EnvironmentBuildError: if the lock file cannot be read.
    """
    entry = _read(folder).get(_key(checked_requirements(requirements), python_of(interpreter)))
    return None if entry is None else _text(entry["lock"])


def missing_lock(folder: Path, requirements: Iterable[str], interpreter: str) -> EnvironmentBuildError:
    """Return the error for an environment that `find_lock` has no lock for."""
    wanted, python = list(checked_requirements(requirements)), python_of(interpreter)
    locked = [entry for entry in _read(folder).values() if entry["requirements"] == wanted]
    others = ", ".join(sorted(f"Python {entry['python']} on {entry['platform']}" for entry in locked))
    state = f"is locked for {others} only" if others else "has no lock, or has changed since it was locked"
    return EnvironmentBuildError(
        f"the environment with the requirements {', '.join(wanted)} {state}, and is needed for Python {python.minor} "
        f"on {python.platform}: run {_UNNAMED}; it writes {folder / LOCK_FILE}"
    )


@contextmanager
def naming(file: Path | None, compute: str | None = None) -> Iterator[None]:
    """Let errors that ask for a lock name the file of the pipeline, where there is one, and the compute target."""
    try:
        yield
    except EnvironmentBuildError as error:
        if file is None or _UNNAMED not in str(error):
            raise
        option = f" --compute {compute}" if compute else ""
        raise EnvironmentBuildError(str(error).replace(_UNNAMED, f"`mlpipe lock {file}{option}`")) from error


def lock_environments(folder: Path, environments: Iterable[tuple[Iterable[str], str]]) -> tuple[Locked, ...]:
    """Resolve environments anew and write them to the lock file of a folder; its other entries stay.

    :param environments: requirements each, and the path of an interpreter, or the version of one in an image.
    :raises EnvironmentBuildError: if requirements contradict each other or do not exist, with uv's own last lines;
        then nothing is written.
    """
    resolved: dict[str, dict[str, Any]] = {}
    for requirements, interpreter in environments:
        wanted, python = checked_requirements(requirements), python_of(interpreter)
        if (key := _key(wanted, python)) not in resolved:
            resolved[key] = {
                "requirements": list(wanted),
                "python": python.minor,
                "platform": python.platform,
                "lock": _resolve(wanted, interpreter),
            }
    with _alone(folder):
        before = _read(folder)
        _write(folder, {**before, **resolved})
    return tuple(_locked(before.get(key), entry) for key, entry in resolved.items())


def python_of(interpreter: str) -> Interpreter:
    """Return what an interpreter is; of a version such as ``3.12``, one in an image for this kind of machine."""
    if not _VERSION.match(interpreter):
        return identify(interpreter)
    return Interpreter(f"{interpreter}.0", "Linux", platform.machine(), interpreter)


def _problem(line: str) -> str:
    if _CREDENTIALS.search(line):
        remedy = "keep credentials in the settings of uv or in .netrc"
        return f"  {without_credentials(line)}: holds credentials: {remedy}"
    if _LOCAL.match(line):
        return f"  {line}: is a local path: publish it to a package index, or move the code into source_directory"
    if _OPTION.match(line):
        return f"  {line}: is or holds an option: write requirements only; indexes belong into the settings of uv"
    return ""


def _key(requirements: tuple[str, ...], python: Interpreter) -> str:
    return fingerprint({"requirements": requirements, "python": python.minor, "platform": python.platform})


def _resolve(requirements: tuple[str, ...], interpreter: str) -> list[str]:
    what = f"lock the requirements {', '.join(requirements)}"
    which: tuple[str, ...]
    if _VERSION.match(interpreter):  # not of this machine
        system = f"{platform.machine()}-unknown-linux-gnu"
        which = ("--python-version", interpreter, "--python-platform", system, "--python", sys.executable)
    else:
        which = ("--python", interpreter)
    arguments = ("pip", "compile", "--quiet", "--no-header", "--no-annotate", *which, "-")
    text = run_uv(arguments, what, given=_text(requirements))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("-", "#"))]
    if strange := [problem for line in lines if (problem := _problem(line))]:
        raise EnvironmentBuildError(f"cannot {what}, since they resolve to:\n" + "\n".join(strange))
    return lines


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _locked(before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> Locked:
    old = None if before is None else tuple(before["lock"])
    return Locked(tuple(entry["requirements"]), entry["python"], entry["platform"], old, tuple(entry["lock"]))


def versions(lock: Iterable[str]) -> dict[str, str]:
    """Return what follows each name in the lines of a lock: its version, or where it comes from."""
    named = ((match.group(), line[match.end() :]) for line in lock if (match := _NAME.match(line)))
    return {name: rest.removeprefix("==").lstrip(" @") for name, rest in named}


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of a lock file by key."""
    path = folder / LOCK_FILE
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    match data:
        case {"format": int(version)} if version > FORMAT:
            raise _unusable(path, f"its format {version} is newer than {FORMAT}, upgrade airflow-mlpipe")
        case {"format": int(), "environments": dict(entries)} if all(map(_is_entry, entries.values())):
            return entries
        case _:
            raise _unusable(path, "it is not a lock file")


def _is_entry(entry: object) -> bool:
    match entry:
        case {"requirements": list(), "python": str(), "platform": str(), "lock": list()}:
            return True
        case _:
            return False


def _unusable(path: Path, reason: str) -> EnvironmentBuildError:
    return EnvironmentBuildError(
        f"the lock file {str(path)!r} cannot be read: {reason}; resolve its merge conflict, or remove it and run "
        "`mlpipe lock FILE`"
    )


def _write(folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    ordered = sorted(entries.items(), key=lambda item: (item[1]["requirements"], item[1]["python"], item[0]))
    text = json.dumps({"format": FORMAT, "environments": dict(ordered)}, indent=2, ensure_ascii=False) + "\n"
    path = folder / LOCK_FILE
    if path.exists() and path.read_text("utf-8") == text:
        return
    try:
        _replace(path, text)
    except OSError as error:
        message = f"the lock file {str(path)!r} cannot be written: {error.strerror}: make its folder writable"
        raise EnvironmentBuildError(message) from error


def _replace(path: Path, text: str) -> None:
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(number, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            file.flush()
            os.fsync(number)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _alone(folder: Path) -> AbstractContextManager[int]:
    """Let one process at a time read and write the lock file of a folder; its readers need not wait."""
    return alone(cache_folder() / "locks" / fingerprint({"folder": str(folder.resolve())})[:32])
