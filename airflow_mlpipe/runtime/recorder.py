"""Records what a Python process imports; staged as `sitecustomize`, so that it runs in every Python a step starts.

For each module that is not of the standard library it appends its name and where it lies to the file `imports` beside
the folder this file is staged in: one write a module, so that neither `os._exit` nor a kill nor a fork loses any.
When the script, or a module of its author's (not an installed library), looks for a module that is not there, that is
recorded too, without a place and with each folder outside of the environment where it was looked for: were it there, the
script might do something else. The real `sitecustomize` of the environment, if there is one, runs afterwards.

Not seen: processes that ignore `PYTHONPATH` (``python -I``, ``python -E``) or are started without it, and modules that an
import hook found which the script itself put in front. Written for any Python 3; imports nothing that is not loaded anyway.
"""

# ruff: noqa: PTH100, PTH110, PTH113, PTH118, PTH120 -- pathlib would cost every Python process of a step its import
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
_ARCHIVE = f"python{sys.version_info[0]}{sys.version_info[1]}.zip{os.sep}"
"""The end of where the search path expects the standard library, packed."""
_NAMES = frozenset(getattr(sys, "stdlib_module_names", sys.builtin_module_names))
_NO_PLACE = "(none)"
"""Of built-in modules, of those that only their loader knows, and of namespaces, whose parts are recorded instead."""
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
                note(name, _place(spec))
                return spec
        if _asked_by_author():
            _note_absent(name, sys.path if path is None else path)
        return None


def _of_a_package(name: str, path: Sequence[str] | None) -> bool:
    """Tell whether the folder of an ordinary package, recorded by itself, holds the module."""
    return "." in name and type(path) is list and len(path) == 1  # a namespace has a type of its own


def _asked_by_author() -> bool:
    """Tell whether the code of the step or a module beside it is what imports, as opposed to an installed library."""
    frame = sys._getframe(2)  # noqa: SLF001 -- there is no other way
    while frame.f_back is not None and _is_importlib(frame.f_code.co_filename):
        frame = frame.f_back
    file = frame.f_code.co_filename
    if file.startswith("<"):
        return not file.startswith("<frozen ")
    return _is_outside(os.path.abspath(file))


def _is_outside(place: str) -> bool:
    """Tell whether a place is neither of the standard library nor of installed packages."""
    return place.startswith(_STEP) or not (place.startswith(_STANDARD) or any(part in place for part in _PACKAGES))


def _is_importlib(file: str) -> bool:
    return file.startswith(("<frozen importlib", _STANDARD + "importlib"))


def _note_absent(name: str, folders: Sequence[str]) -> None:
    """Write down that a module is not there, and the folders of the script's own where it is not."""
    note(name, "")
    for folder in (folder for folder in folders if isinstance(folder, str)):
        place = os.path.abspath(folder) + os.sep
        if _is_outside(place) and not place.endswith(_ARCHIVE):
            note(name, place)


def note(name: str, place: str) -> None:
    """Write a module down, once a process; without a place where it is not there."""
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


def _place(spec: ModuleSpec) -> str:
    """Return the folder of a package, the file of a module."""
    if spec.origin is None or not spec.has_location:
        return _NO_PLACE
    folders = list(spec.submodule_search_locations or ())
    place = os.path.abspath(folders[0] if folders else spec.origin)
    return place if os.path.exists(place) or _is_in_archive(place) else _NO_PLACE


def _is_in_archive(place: str) -> bool:
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return os.path.isfile(place)


def _is_standard(name: str, place: str) -> bool:
    if place == _NO_PLACE:
        return True
    if not place or place.endswith(os.sep):
        return name.partition(".")[0] in _NAMES
    return place.startswith(_STANDARD) and not any(part in place for part in _PACKAGES)


def _note_loaded() -> None:
    """Write down what the start of the interpreter imported before this file."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and "." not in name and name not in ("__main__", "sitecustomize"):
            note(name, _place(spec))


def _run_real() -> None:
    """Run the `sitecustomize` that this file hides."""
    others = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    note("sitecustomize", _place(spec))
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    _note_loaded()
    sys.meta_path.insert(0, Recorder)
    _run_real()
