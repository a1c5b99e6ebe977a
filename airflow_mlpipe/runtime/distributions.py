"""Installed distributions, read from the folders they lie in; nothing is imported and no metadata parsed.

A folder is listed again only when its modification time has changed, so asking often costs little.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_VOLATILE = re.compile(
    rb"(\.pyc|/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json|uv_build\.json)),|\A\.\./"
)
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class Distribution:
    """One installed distribution; ``info`` is its `.dist-info` (or `.egg-info`) in a folder of packages."""

    name: str
    version: str
    info: Path

    def count(self) -> str:
        """Return what reuse compares: the version; for one not from a package index its content, too."""
        direct = self.info / "direct_url.json"
        if not direct.is_file():
            return self.version
        if json.loads(direct.read_bytes()).get("dir_info", {}).get("editable"):
            return f"{self.version}+editable"  # what is imported from it counts by content, as a module
        return f"{self.version}+sha256:{self._content()}"

    def changed(self) -> int:
        """Return when it was installed, as a change time in nanoseconds."""
        return self.info.stat().st_ctime_ns

    def held(self, entries: Iterable[str]) -> list[str]:
        """Return those entries (``file.py,`` or ``folder/``, as its list of installed files writes them) it installed."""
        record = self.record()
        if record is None:
            names = self._top_level()
            return [entry for entry in entries if entry.partition("/")[0].partition(".")[0] in names]
        return [entry for entry in entries if f"\n{entry}".encode() in record]

    def record(self) -> bytes | None:
        """Return the list of installed files with their digests, each after a line feed; None if there is none."""
        try:
            return b"\n" + (self.info / "RECORD").read_bytes()
        except OSError:
            return None

    def _content(self) -> str:
        lines = (self.record() or b"").splitlines()
        return hashlib.sha256(b"\n".join(sorted(line for line in lines if not _VOLATILE.search(line)))).hexdigest()

    def _top_level(self) -> list[str]:
        try:
            return (self.info / "top_level.txt").read_text("utf-8").split()
        except OSError:
            return []


_listed: dict[Path, tuple[int, dict[str, Distribution]]] = {}


def installed(folder: Path) -> dict[str, Distribution]:
    """Return the distributions in a folder of packages by their normalized name; empty if there is no such folder."""
    try:
        modified = folder.stat().st_mtime_ns
    except OSError:
        return {}
    if folder not in _listed or _listed[folder][0] != modified:
        _listed[folder] = (modified, {found.name: found for found in _list(folder)})
    return _listed[folder][1]


def find(name: str, folders: Iterable[Path]) -> Distribution | None:
    """Return a distribution by name from the first folder that has it."""
    key = normalized(name)
    return next((found[key] for folder in folders if key in (found := installed(folder))), None)


def owners(places: Iterable[Path], folders: Iterable[Path]) -> dict[Path, list[Distribution]]:
    """Return the distributions that installed each file, or files in each folder (several, for a shared namespace)."""
    found: dict[Path, list[Distribution]] = {place: [] for place in places}
    for folder in folders:
        entries = {_entry(place, folder): place for place in found if place.is_relative_to(folder)}
        if entries:
            for one in installed(folder).values():
                for entry in one.held(entries):
                    found[entries[entry]].append(one)
    return found


def _entry(place: Path, folder: Path) -> str:
    return place.relative_to(folder).as_posix() + ("/" if place.is_dir() else ",")


def normalized(name: str) -> str:
    """Return the one spelling of a distribution's name, as package indexes use it."""
    return _SEPARATORS.sub("-", name).lower()


def _list(folder: Path) -> Iterator[Distribution]:
    for entry in sorted(folder.iterdir()):
        if entry.suffix == ".dist-info":
            name, _, version = entry.stem.rpartition("-")
        elif entry.suffix == ".egg-info":
            name, _, version = re.sub(r"-py\d(\.\d+)?\Z", "", entry.stem).partition("-")
        else:
            continue
        if name and not name.startswith("~"):  # pip renames what it failed to remove
            yield Distribution(normalized(name), version, entry)
