"""Where an interpreter finds installed packages. Also run as a file, by that interpreter, so: any Python 3, stdlib only.

The search path of a running process may hold more (a DAG folder, `PYTHONPATH`), so it is derived anew here: the
folders for packages, and those that `.pth` files in them add. Editable installs of setuptools map names to folders
through a finder; these mappings are taken along.
"""

# ruff: noqa: PTH100, PTH110, PTH112, PTH118, PTH123, PTH208 -- it runs in interpreters of any age
from __future__ import annotations

import json
import os
import site
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def packages() -> dict[str, Any]:
    """Return ``{"folders": [site-packages, ...], "paths": [all to search, ...], "mapped": {name: place}}``."""
    folders = [folder for folder in site.getsitepackages() if os.path.isdir(folder)]
    if site.ENABLE_USER_SITE and os.path.isdir(site.getusersitepackages()):
        folders.append(site.getusersitepackages())
    folders = list(dict.fromkeys(folders))
    paths: list[str] = []
    for folder in folders:
        paths.append(folder)
        paths.extend(path_files(folder))
    return {"folders": folders, "paths": list(dict.fromkeys(paths)), "mapped": _mapped()}


def path_files(folder: str) -> list[str]:
    """Return the folders that `.pth` files in a folder add to the search path."""
    added: list[str] = []
    for name in sorted(os.listdir(folder)):
        if name.endswith(".pth") and not name.startswith("."):
            added.extend(_lines_of(folder, name))
    return added


def _lines_of(folder: str, name: str) -> list[str]:
    with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    places = [
        os.path.abspath(os.path.join(folder, line))
        for line in lines
        if line and not line.startswith(("#", "import ", "import\t"))
    ]
    return [place for place in places if os.path.exists(place)]


def _mapped() -> dict[str, str]:
    mapped: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):
            mapped.update(getattr(module, "MAPPING", {}))
    return mapped


if __name__ == "__main__":
    print(json.dumps(packages()))  # noqa: T201 -- its answer
