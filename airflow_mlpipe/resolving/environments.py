"""The software of a step: what of it reuse compares, and the Python or the image that has it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions.environment import PYTHON
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving.interpreters import identify, locate
from airflow_mlpipe.resolving.locks import checked_requirements, find_lock, missing_lock
from airflow_mlpipe.resolving.venvs import build
from airflow_mlpipe.runtime.observe import current
from airflow_mlpipe.runtime.protocol import EnvironmentSpec
from airflow_mlpipe.store.snapshots import get_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from airflow_mlpipe.definitions import Environment
    from airflow_mlpipe.definitions.frameworks import Framework
    from airflow_mlpipe.resolving.images import Pinned
    from airflow_mlpipe.store.store import Store

_PYTHON = re.compile(r"(?:.*/)?python(3\.\d+)\Z")


def specification(environment: Environment, folder: Path, store_put: Callable[[bytes], str]) -> EnvironmentSpec:
    """Return what an environment is now, on a local target.

    How it is compared decides what counts: ``strict`` everything; ``declared`` its lock and variables, whatever the
    Python and the machine; ``ignore`` only its variables, which are like parameters. The lock is known in each case,
    since the step is launched with it.

    :param folder: the folder of the definition, where the requirements file and the lock lie.
    :param store_put: keeps the text of the lock and returns its digest.
    :raises EnvironmentBuildError: if the requirements have no lock, or the interpreter cannot be used.
    """
    interpreter = environment.interpreter(folder)
    requirements = requirements_of(environment, folder)
    path = locate(interpreter)
    return EnvironmentSpec(
        interpreter=interpreter,
        lock=store_put(_lock(folder, requirements, path).encode()) if requirements else None,
        variables=dict(environment.variables),
        secrets=dict(environment.secrets),
        facts=facts_of(environment, path),
        observe=not requirements and environment.compare == "strict",
        compare=environment.compare,
    )


def in_container(environment: Environment, lock: str | None, pinned: Callable[[], Pinned]) -> EnvironmentSpec:
    """Return what an environment is now, in a container: its image, as it is compared (rule 4).

    How it is compared decides what counts, as on a local target: where only what is declared does, or nothing, the
    same environment without an image is the same software.

    :param lock: the digest of the lock of its requirements.
    :param pinned: gives the image; one that cannot be found out leaves the environment unknown.
    :raises EnvironmentBuildError: if there is no image, or a connection is for another registry than the image's.
    """
    try:
        image, unknown = pinned(), None
    except ImageUnknownError as error:
        image, unknown = None, str(error)
    return EnvironmentSpec(
        interpreter=environment.command,
        lock=lock,
        variables=dict(environment.variables),
        secrets=dict(environment.secrets),
        facts=_facts_in(image, environment) if image and environment.compare == "strict" else {},
        compare=environment.compare,
        image=image.reference if image else None,
        unknown=unknown,
    )


def _facts_in(image: Pinned, environment: Environment) -> dict[str, str]:
    """Return what is compared of a container: its image, and its Python where that is not the usual one of the image."""
    usual = environment.command == PYTHON
    return {"image": image.fact} if usual else {"image": image.fact, "python": environment.command}


def image_lock(environment: Environment, folder: Path) -> str | None:
    """Return the text of the lock that an image is built with, or that stands for what it has; None without requirements.

    :raises EnvironmentBuildError: if the requirements have no lock.
    """
    requirements = requirements_of(environment, folder)
    return _lock(folder, requirements, image_python(environment)) if requirements else None


def image_python(environment: Environment) -> str:
    """Return for which Python an image's requirements are locked: the version it is said to have, or the worker's own."""
    if environment.build is not None and environment.build.python is not None:
        return environment.build.python
    named = _PYTHON.match(environment.command)
    return named[1] if named else sys.executable


def requirements_of(environment: Environment, folder: Path) -> tuple[str, ...]:
    """Return the requirements of an environment and of its requirements file together, sorted.

    :raises EnvironmentBuildError: if the file cannot be read, or a requirement cannot be locked.
    """
    lines = list(environment.requirements)
    if path := environment.requirements_path(folder):
        try:
            lines += path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            message = f"the requirements file {str(path)!r} cannot be read: {error}: correct requirements_file"
            raise EnvironmentBuildError(message) from error
    return checked_requirements(lines)


def to_lock(environment: Environment, folder: Path, *, container: bool = False) -> tuple[tuple[str, ...], str] | None:
    """Return what `locks.lock_environments` takes for an environment, or None if it has no requirements.

    :param container: whether it is for an image, not for the worker.
    """
    requirements = requirements_of(environment, folder)
    if not requirements:
        return None
    return requirements, image_python(environment) if container else locate(environment.interpreter(folder))


def facts_of(environment: Environment, interpreter: str) -> dict[str, str]:
    """Return what is compared of the Python and the machine: nothing unless all of it is (``compare: strict``).

    :param interpreter: the path of a Python.
    :raises EnvironmentBuildError: if it does not run.
    """
    if environment.compare != "strict":
        return {}
    python = identify(interpreter)
    return {"system": python.system, "machine": python.machine, "python": python.version}


def interpreter_for(environment: EnvironmentSpec, store: Store) -> str:
    """Return the Python a step runs with, after building its virtual environment if it has a lock.

    :raises EnvironmentBuildError: if that fails; the store's errors if the lock is not there.
    """
    path = locate(environment.interpreter)
    if environment.lock is None:
        return path
    return str(build(get_blob(store, environment.lock).decode(), path))


def check_installed(framework: Framework | None, environment: EnvironmentSpec) -> None:
    """Make sure that a Python that is used as it is has what a framework needs; nothing of it is imported.

    :raises EnvironmentBuildError: if it lacks that; it names the package.
    """
    if framework is None or environment.lock is not None or environment.image is not None or environment.unknown:
        return
    python = locate(environment.interpreter)
    if not framework.needed or any(current(python, framework.needed).values()):
        return
    message = (
        f"the framework {framework.name} needs the package {' or '.join(framework.needed)}, which is not installed for "
        f"{python}: install it, give framework_version so that an environment is made, or name an environment"
    )
    raise EnvironmentBuildError(message)


def same_software(observed: Mapping[str, str], interpreter: str) -> dict[str, tuple[str, str]]:
    """Return which distributions differ from what a record observed: name -> (then, now), now empty if gone.

    An empty result means that the record may be reused.
    """
    now = current(interpreter, observed)
    return {name: (version, now[name]) for name, version in sorted(observed.items()) if now[name] != version}


def _lock(folder: Path, requirements: tuple[str, ...], interpreter: str) -> str:
    text = find_lock(folder, requirements, interpreter)
    if text is None:
        raise missing_lock(folder, requirements, interpreter)
    return text
