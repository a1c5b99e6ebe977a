"""Whether the functions that a definition has Airflow call are there; they are looked for, not imported."""

from __future__ import annotations

import ast
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.faults import Fault, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

    from airflow_mlpipe.definitions.pipeline import Pipeline

FIELDS = ("on_failure", "on_success", "on_retry")


def callback_faults(pipeline: Pipeline) -> Iterator[Fault]:
    """Yield the callbacks whose module cannot be found here, or does not say the name of the function.

    Beside what this Python imports, the folder of the definition and the one around it count, as DAG folders do.
    """
    places = [str(pipeline.folder), str(pipeline.folder.absolute().parent), *sys.path]
    for user, at in ((pipeline, ()), *((step, ("steps", step.name)) for step in pipeline.steps)):
        for field in FIELDS:
            dotted = getattr(user, field, None)
            if dotted is not None and (wrong := _wrong(dotted, places)):
                yield Fault((*at, field), wrong[0], wrong[1], dotted)


def _wrong(dotted: str, places: list[str]) -> tuple[str, str] | None:
    module, _, function = dotted.rpartition(".")
    if module.partition(".")[0] in sys.builtin_module_names:
        return None
    found = _find(module, places)
    if found is None:
        remedy = "Install it here, put it into the folder of the definition or of the DAGs, or correct the name"
        return f"names a module {module} that cannot be found", remedy
    names = _names(found)
    if names is not None and function not in names:
        return f"names a function that {module} does not have", did_you_mean(function, sorted(names))
    return None


def _find(module: str, places: list[str]) -> ModuleSpec | None:
    """Return where a module lies, without importing the packages around it."""
    found: ModuleSpec | None = None
    paths: list[str] | None = places
    name = ""
    for part in module.split("."):
        if paths is None:
            return None
        name = f"{name}.{part}" if name else part
        found = PathFinder.find_spec(name, paths)
        if found is None:
            return None
        paths = list(found.submodule_search_locations) if found.submodule_search_locations is not None else None
    return found


def _names(found: ModuleSpec) -> set[str] | None:
    """Return the names that a module of source code binds; None where that cannot be told."""
    if not found.origin or not found.origin.endswith(".py"):
        return None
    try:
        with open(found.origin, "rb") as file:  # noqa: PTH123 -- it is a text
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.alias():
                names.add((node.asname or node.name).partition(".")[0])
    return None if "*" in names or "__getattr__" in names else names
