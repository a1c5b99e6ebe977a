"""What software a script used: from the recorded imports to distributions and versions (rule 4).

An observation maps names to what reuse compares:

- ``scikit-learn``: its version, of an installed distribution; with ``+sha256:...`` of its installed files where it came
  from a folder, a file or a repository instead of a package index;
- ``module:helpers``: the digest of a module that no distribution installed: an editable project, a `.pth` folder;
  empty if the script looked for it and it was not there;
- ``module:helpers@/opt/lib/helpers.py``: the same for one outside the search path of the interpreter, and
  ``module:helpers@/opt/lib/`` for one that was looked for in such a folder and was not there.

The standard library is left to the Python version, and what lies in the step directory to the fingerprint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.runtime import distributions, probe
from airflow_mlpipe.store.digests import StatIndex, digest_files, folder_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CHANGED = "changed while the step ran"
_MODULE = "module:"
_STARTUP = ("_distutils_hack", "_virtualenv", "__editable__")
"""Modules that the start of an interpreter imports for every script."""
_CODE = (".py", ".so", ".pyc")


@dataclass(frozen=True)
class Packages:
    """Where an interpreter finds installed packages; see `probe.packages`."""

    folders: tuple[Path, ...]
    paths: tuple[Path, ...]
    mapped: Mapping[str, str] = field(default_factory=dict)


def observed(interpreter: str, imports: Path, since: int = sys.maxsize) -> dict[str, str]:
    """Return the observation for the file that the recorder of a step wrote.

    :param since: when the command began, as a change time in nanoseconds. What changed later stands as `CHANGED`, which
        nothing ever equals: what the command used is not known then, and its result is not reused.
    """
    packages = _packages_of(interpreter)
    modules = _read(imports)
    places = {module: sorted(Path(place) for place in found if _is_there(place)) for module, found in modules.items()}
    owners = distributions.owners({path for paths in places.values() for path in paths}, packages.folders)
    names: dict[str, int] = {}
    absent: set[str] = set()
    for module, paths in places.items():
        for path in paths:
            for owner in owners[path]:
                names[owner.name] = owner.changed()
            if not owners[path]:
                names[_module(module, path, packages)] = _changed(path)
        if not paths:
            absent.update(_absent(module, modules[module], packages))
    names.update(dict.fromkeys(absent, 0))
    now = current(interpreter, names)
    return {
        name: CHANGED if changed > since or (name in absent and now[name]) else now[name]
        for name, changed in names.items()
    }


def current(interpreter: str, names: Iterable[str]) -> dict[str, str]:
    """Return what the names of an observation stand for now; empty for what is not there."""
    packages = _packages_of(interpreter)
    return {name: _count(name, packages) for name in names}


def _read(imports: Path) -> dict[str, set[str]]:
    modules: dict[str, set[str]] = {}
    if not imports.exists():
        return modules
    for line in imports.read_bytes().splitlines():
        name, separator, place = os.fsdecode(line).partition("\0")
        if separator and not name.startswith(_STARTUP):
            modules.setdefault(name, set()).add(place)
    return modules


def _is_there(place: str) -> bool:
    """Say whether a recorded place is that of a module, rather than a folder it was looked for in vain."""
    return bool(place) and not place.endswith(os.sep)


def _absent(module: str, folders: Iterable[str], packages: Packages) -> Iterator[str]:
    """Yield the names of a module that was not there, which the interpreter or a folder of the script's may have later."""
    yield _MODULE + module
    yield from (f"{_MODULE}{module}@{folder}" for folder in folders if folder and Path(folder) not in packages.paths)


def _module(module: str, path: Path, packages: Packages) -> str:
    return f"{_MODULE}{module}" if _find(module, packages) == path else f"{_MODULE}{module}@{path}"


def _changed(place: Path) -> int:
    """Return when a module was changed last; what is gone was changed just now."""
    try:
        return max((file.stat().st_ctime_ns for file in _files(place)), default=0 if place.exists() else sys.maxsize)
    except OSError:
        return sys.maxsize


def _count(name: str, packages: Packages) -> str:
    if not name.startswith(_MODULE):
        found = distributions.find(name, packages.folders)
        return found.count() if found else ""
    module, _, place = name[len(_MODULE) :].partition("@")
    if place.endswith(os.sep):
        path = next(_candidates(module.rpartition(".")[2], [Path(place)]), None)
    else:
        path = Path(place) if place else _find(module, packages)
    if path is None:
        return ""
    owners = distributions.owners([path], packages.folders)[path]
    return ", ".join(f"{one.name} {one.count()}" for one in owners) or _content(path)


def _find(module: str, packages: Packages) -> Path | None:
    """Return the folder or file of a module, as the import system would find it."""
    places = list(packages.paths)
    first, *rest = module.split(".")
    found = list(_candidates(first, places))
    if not found and first in packages.mapped:
        mapped = Path(packages.mapped[first])
        found = list(_candidates(mapped.name, [mapped.parent]))
    for part in rest:
        found = list(_candidates(part, [place for place in found if place.is_dir()]))
    return next((place for place in found if place.is_file() or _is_package(place)), None)


def _candidates(name: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Yield a package or module, or else the parts of a namespace package."""
    parts = []
    for folder in folders:
        if _is_package(folder / name):
            yield folder / name
            return
        if files := sorted(_modules(folder, name)):
            yield files[0]
            return
        if (folder / name).is_dir():
            parts.append(folder / name)
    yield from parts


def _is_package(folder: Path) -> bool:
    return any(True for _ in _modules(folder, "__init__"))


def _modules(folder: Path, name: str) -> Iterator[Path]:
    for suffix in _CODE:
        if (folder / f"{name}{suffix}").is_file():
            yield folder / f"{name}{suffix}"
    yield from folder.glob(f"{name}.*.so")  # with the tag of an interpreter


def _content(place: Path) -> str:
    """Return the digest of a module's file, or of the files of a package."""
    index = StatIndex.open()
    files = _files(place)
    digests = digest_files(files, index)
    if files == [place] or not place.is_dir():
        return digests[0] if digests else ""
    return folder_digest(
        {file.relative_to(place).as_posix(): digest for file, digest in zip(files, digests, strict=True)}
    )


def _files(place: Path) -> list[Path]:
    """Return the file of a module, or all files of a package except compiled and hidden ones; nothing if it is gone."""
    if place.is_dir():
        return sorted(_source_files(place))
    above = next(path for path in (place, *place.parents) if path.exists())
    return [above] if above.is_file() else []  # a file above: an archive, which counts as a whole


def _source_files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if not name.endswith(".pyc") and not name.startswith(".") and path.is_file():
                yield path


_asked: dict[str, tuple[tuple[int, ...], Packages]] = {}


def _packages_of(interpreter: str) -> Packages:
    """Return where an interpreter finds packages; another than this one is asked again when its folders changed."""
    if interpreter == sys.executable:
        return _packages(probe.packages())
    if interpreter not in _asked or _asked[interpreter][0] != _modified(_asked[interpreter][1].folders):
        packages = _packages(_ask(interpreter))
        _asked[interpreter] = (_modified(packages.folders), packages)
    return _asked[interpreter][1]


def _packages(answer: Mapping[str, Any]) -> Packages:
    return Packages(tuple(map(Path, answer["folders"])), tuple(map(Path, answer["paths"])), answer["mapped"])


def _modified(folders: Iterable[Path]) -> tuple[int, ...]:
    return tuple(folder.stat().st_mtime_ns if folder.exists() else 0 for folder in folders)


def _ask(interpreter: str) -> dict[str, Any]:
    command = [interpreter, "-B", probe.__file__]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
        return dict(json.loads(answer.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", b"") or b""
        message = (
            f"the interpreter {interpreter} does not say where its packages are: {error} "
            f"{detail.decode('utf-8', 'replace')[-500:]}; give the path of a Python 3 that runs on this machine"
        )
        raise EnvironmentBuildError(message) from error
