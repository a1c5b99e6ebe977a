"""Records what a Python process imports; staged as `sitecustomize`, so that it runs in every Python a step starts.

For each module that is not of the standard library it appends its name and where it lies to the file `imports` beside
the folder this file is staged in: one write a module, so that neither `os._exit` nor a kill nor a fork loses any.
When the script itself (not a library) looks for a module that is not there, that is recorded too, without a place: were
it installed, the script might do something else. The real `sitecustomize` of the environment, if there is one, runs afterwards.

Not seen: processes that ignore `PYTHONPATH` (``python -I``), and modules that an import hook found which the script
itself put in front. Written for any Python 3; imports nothing that is not loaded anyway.
"""

# ruff: noqa: PTH100, PTH118, PTH120 -- pathlib would cost every Python process of a step its import
from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec, PathFinder
    from importlib.util import module_from_spec
    from types import ModuleType
else:
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import PathFinder

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_FILE = os.path.join(os.path.dirname(_FOLDER), "imports")
_STEP = os.path.dirname(os.path.dirname(_FOLDER)) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PACKAGES = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)
_NAMES = frozenset(getattr(sys, "stdlib_module_names", sys.builtin_module_names))
_NO_PLACE = "(none)"
"""Of built-in modules, and of namespaces, whose parts are recorded instead."""
_seen: set[tuple[str, str]] = set()


class Recorder:
    """Asks the other finders, writes down what they say, and hands it on."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module as if this finder were not there."""
        if _of_a_package(name, path):
            return None
        for finder in list(sys.meta_path):
            if finder is Recorder:
                continue
            if not hasattr(finder, "find_spec"):  # of the kind that Python 3.12 dropped
                return None
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                note(name, spec)
                return spec
        if _asked_by_script():
            note(name, None)
        return None


def _of_a_package(name: str, path: Sequence[str] | None) -> bool:
    """Tell whether the folder of an ordinary package, recorded by itself, holds the module."""
    return "." in name and type(path) is list and len(path) == 1  # a namespace has a type of its own


def _asked_by_script() -> bool:
    """Tell whether the code of the step is what imports, as opposed to a library."""
    frame = sys._getframe(2)  # noqa: SLF001 -- there is no other way
    while frame.f_back is not None and _is_importlib(frame.f_code.co_filename):
        frame = frame.f_back
    file = frame.f_code.co_filename
    if file.startswith("<"):
        return not file.startswith("<frozen ")
    return os.path.abspath(file).startswith(_STEP)


def _is_importlib(file: str) -> bool:
    return file.startswith(("<frozen importlib", _STANDARD + "importlib"))


def note(name: str, spec: ModuleSpec | None) -> None:
    """Write a module down, once a process."""
    place = _place(spec)
    if (name, place) in _seen or _is_standard(name, place) or place.startswith(_STEP):
        return
    _seen.add((name, place))
    line = os.fsencode(name + "\0" + place + "\n")
    try:
        descriptor = os.open(_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError:
        return  # the step is being cleared away
    try:
        written = os.write(descriptor, line)
    except OSError as error:
        raise _unrecorded(name, str(error.strerror)) from None
    finally:
        os.close(descriptor)
    if written != len(line):
        raise _unrecorded(name, "the disk is full")


def _unrecorded(name: str, reason: str) -> SystemExit:
    """Return what ends the process: a step of which an import is not known must not succeed, or it would be reused."""
    return SystemExit(f"mlpipe: that {name} was imported cannot be written down: {reason}")


def _place(spec: ModuleSpec | None) -> str:
    """Return the folder of a package, the file of a module; empty for what is absent."""
    if spec is None:
        return ""
    if spec.origin is None or not spec.has_location:
        return _NO_PLACE
    folders = list(spec.submodule_search_locations or ())
    return os.path.abspath(folders[0] if folders else spec.origin)


def _is_standard(name: str, place: str) -> bool:
    if place == _NO_PLACE:
        return True
    if not place:
        return name.partition(".")[0] in _NAMES
    return place.startswith(_STANDARD) and not any(part in place for part in _PACKAGES)


def _note_loaded() -> None:
    """Write down what the start of the interpreter imported before this file."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and "." not in name and name not in ("__main__", "sitecustomize"):
            note(name, spec)


def _run_real() -> None:
    """Run the `sitecustomize` that this file hides."""
    others = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    note("sitecustomize", spec)
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    _note_loaded()
    sys.meta_path.insert(0, Recorder)
    _run_real()
