"""What a script imports: for steps with ``code: imports``, only that is code, and only that is staged.

Found without running anything, so an import by a computed name is not found. It fails when the step runs, since the
file is not there, and never meets an outdated one.
"""

from __future__ import annotations

import ast
import os
import warnings
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import SourceError
from airflow_mlpipe.resolving.sources import SourceTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_mlpipe.store.digests import StatIndex
    from airflow_mlpipe.store.snapshots import Snapshot

_COMPILED = (".so", ".pyd")


def scan_imports(directory: Path, script_name: str, index: StatIndex | None = None) -> Snapshot:
    """Return the snapshot of a script and of the modules it imports from its source directory, and they in turn.

    Modules are looked for beside the script and in the source directory itself. An import counts wherever it stands:
    in a function, under a condition, or as ``import_module("name")``. A file that cannot be parsed is taken as it is,
    and what it imports is not followed.

    :param script_name: the script, relative to the directory.
    :param index: remembers digests, so that unchanged files are not hashed again.
    :raises SourceError: if there is no such script, or a file cannot be packed; see `sources.scan`.
    """
    tree = SourceTree.open(directory)
    script = os.path.normpath(script_name).replace(os.sep, "/")
    if script.startswith(("../", "/")) or tree.find(script) is None:
        raise no_script(script_name, directory)
    found = _Imports(tree, roots=tuple(dict.fromkeys((_parent(script), ""))))
    found.add(script)
    return tree.snapshot(found.files, index)


def no_script(script_name: str, directory: Path) -> SourceError:
    """Return the error for a script that is not part of the code of its step."""
    message = (
        f"the script {script_name!r} is not among the files of the source directory {str(directory)!r}: "
        "correct script_name, or see whether an ignore file names it"
    )
    return SourceError(message)


@dataclass(frozen=True)
class _Imports:
    """The files reached so far; ``roots`` are the folders below which absolute names are looked for."""

    tree: SourceTree
    roots: tuple[str, ...]
    files: dict[str, os.stat_result] = field(default_factory=dict)
    _listed: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str) -> None:
        """Add a file and, transitively, what it imports."""
        waiting = [path]
        while waiting:
            file = waiting.pop()
            status = None if file in self.files else self.tree.find(file)
            if status is not None:
                self.files[file] = status
                waiting.extend(self._imported_by(file))

    def _imported_by(self, file: str) -> Iterator[str]:
        if not file.endswith(".py"):
            return
        for folder, names in self._names(file):
            yield from self._modules(folder, names)

    def _names(self, file: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each imported name as the folder it is looked for in and its parts; the last may be ``*``."""
        for level, name in _imports_of(self.tree.directory / file):
            parts = tuple(name.split("."))
            if not all(part.isidentifier() or part == "*" for part in parts):
                continue
            if level == 0:
                yield from ((root, parts) for root in self.roots)
            elif (folder := _above(_parent(file), level - 1)) is not None:
                yield folder, parts

    def _modules(self, folder: str, parts: tuple[str, ...]) -> Iterator[str]:
        """Yield the files of a module and of the packages around it, of those that exist."""
        for part in parts:
            if part == "*":
                yield from (_join(folder, name) for name in self._list(folder) if name.endswith(".py"))
                yield from (_join(folder, f"{name}/__init__.py") for name in self._list(folder) if "." not in name)
            else:
                yield from self._files(folder, part)
                folder = _join(folder, part)
                yield from self._files(folder, "__init__")

    def _files(self, folder: str, module: str) -> Iterator[str]:
        for name in self._list(folder):
            stem, dot, rest = name.partition(".")
            if stem == module and (rest == "py" or (dot + rest).endswith(_COMPILED)):
                yield _join(folder, name)

    def _list(self, folder: str) -> list[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = sorted(entry.name for entry in (self.tree.directory / folder).iterdir())
            except OSError:  # most names are of modules that are installed elsewhere
                self._listed[folder] = []
        return self._listed[folder]


def _imports_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each imported name of a file, and from how many levels up: 0 for an absolute name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user's warnings are for when the script runs
        try:
            module = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return  # a file that cannot be read is refused with the snapshot
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                yield from ((0, alias.name) for alias in names)
            case ast.ImportFrom(module=base, names=names, level=level):
                yield from ((level, f"{base}.{alias.name}" if base else alias.name) for alias in names)
            case ast.Call(func=function, args=[ast.Constant(value=str(name)), *rest]) if _loads(function):
                yield from _loaded(name, [*rest, *(keyword.value for keyword in node.keywords)])


def _loads(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in {"import_module", "__import__"}
        case _:
            return False


def _loaded(name: str, others: list[ast.expr]) -> Iterator[tuple[int, str]]:
    """Yield what a call such as ``import_module(".steps", package="project")`` loads."""
    plain = name.lstrip(".")
    level = len(name) - len(plain)
    yield level, plain
    for other in others:
        match other:
            case ast.Constant(value=str(package)) if level:
                yield 0, ".".join([*package.split(".")[: len(package.split(".")) - level + 1], plain])


def _parent(path: str) -> str:
    parent = PurePosixPath(path).parent.as_posix()
    return "" if parent == "." else parent


def _above(folder: str, levels: int) -> str | None:
    """Return the folder some levels up, or None if that is outside the source directory."""
    parts = folder.split("/") if folder else []
    return None if levels > len(parts) else "/".join(parts[: len(parts) - levels])


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
