"""Finding a module by its name and version in the folders that hold modules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.faults import did_you_mean, refuse
from airflow_mlpipe.definitions.module import Module, chosen
from airflow_mlpipe.definitions.reading import look

if TYPE_CHECKING:
    from collections.abc import Iterable


def load_module(path: Path | str) -> Module:
    """Return the module that a file holds.

    :raises DefinitionError: with everything that is wrong.
    """
    path = Path(path)
    module = look(Module, path.read_text(encoding="utf-8"), str(path)).sound()
    module.folder = path.parent.absolute()
    return module


class ModuleFolders:
    """Folders with one module a file; the file's name begins with the module's: ``train.yaml``, ``train-1.0.yaml``."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(folders)
        self._read: dict[Path, Module] = {}

    def find(self, name: str, version: str | None = None) -> Module:
        """Return the module of that version, else the one marked as default, else the highest.

        :raises Refused: (a ValueError) if there is none.
        :raises DefinitionError: if a file of that module is wrong.
        """
        files = [path for folder in self.folders for path in sorted(folder.glob("*.y*ml"))]
        versions = [module for path in files if path.stem.startswith(name) and (module := self._of(path)).name == name]
        found = chosen(versions, version)
        if found is not None:
            return found
        if versions:
            known = [module.version for module in versions]
            message = f"is no version of the module {name}"
            raise refuse(message, "Known: " + ", ".join(known), version, ("version",))
        places = ", ".join(str(folder) for folder in self.folders) or "no folder"
        message = f"is no module in {places}"
        raise refuse(message, did_you_mean(name, [path.stem for path in files]), name, ("module",))

    def _of(self, path: Path) -> Module:
        if path not in self._read:
            self._read[path] = load_module(path)
        return self._read[path]
