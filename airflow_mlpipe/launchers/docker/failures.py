"""What an engine says when something does not work, in words that help; nothing here asks an engine."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_mlpipe.exceptions import CommandFailedError, StepError, StepStoppedError
from airflow_mlpipe.launchers.docker.container import is_engine_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.launchers.docker.container import Container

_SIGNALLED = 128
_NOT_MOUNTED = "bind source path does not exist: "
_PULL: tuple[tuple[str, str], ...] = (
    (
        r"access denied|unauthorized|authentication required|no basic auth|forbidden",
        "the registry refuses: {said}; check the image's name, and the Airflow connection with the registry's login",
    ),
    (
        r"manifest unknown|not found|no such image|does not exist|name unknown",
        "the registry does not have it (any more): {said}; push it again, and run the pipeline again",
    ),
    (r"no space left", "the engine's disk is full: {said}; make room there (docker system df)"),
    (
        r"dial tcp|no such host|refused|timeout|timed out|tls|x509|certificate|reset by peer|eof",
        "the engine does not reach the registry: {said}; run again when it is there",
    ),
)
_START: tuple[tuple[str, str], ...] = (
    (
        r"could not select device driver|nvidia-container-cli|unresolvable cdi devices",
        "the engine has no such GPU for the container: {said}; use a machine with GPUs and the NVIDIA container toolkit, or leave gpus out",
    ),
    (
        r"no matching entries in (passwd|group)|unable to find (user|group)",
        "the image knows no user {user!r}: {said}; give user as numbers, for example 1000:1000",
    ),
    (r"no space left", "the engine's disk is full: {said}; make room there (docker system df)"),
    (r"network .* not found|no such network", "the engine has no such network: {said}; correct network of the target"),
    (r"bind source path does not exist", "the engine's machine lacks what is to be mounted: {said}; correct mounts"),
    (r"(minimum|not enough|less than) .*memory|memory limit", "the memory cannot be given: {said}; correct memory"),
    (r"cpus available|range of cpus", "the processors cannot be given: {said}; correct cpus"),
)
_COMMAND: tuple[tuple[str, str], ...] = (
    (
        r"executable file not found in \$path",
        "there is no such program on the PATH of the image {image} (exit code 127); check the spelling and the image; a program of the source directory begins with './'",
    ),
    (
        r"permission denied",
        "it is not executable (exit code 126); run `chmod +x` on it, or call it through its interpreter",
    ),
    (
        r"exec format error",
        "it is no program for this machine (exit code 126); begin a script with a line such as #!/bin/sh, and take an image of the engine's architecture",
    ),
    (
        r"no such file or directory|not a directory",
        "there is no such program in the image {image} or the source directory, or the interpreter in its first line (#!) is not there (exit code 127); correct it",
    ),
)


def is_not_mounted(said: str, root: str) -> bool:
    """Say whether an engine complains that it does not see the step directory."""
    _, found, path = said.partition(_NOT_MOUNTED)
    return bool(found) and (path == root or path.startswith(f"{root}/"))


def not_mounted(engine: str, root: Path) -> StepError:
    """Return the error for a step directory that has to be mounted and cannot."""
    message = (
        f"the engine at {engine} does not see the worker's folder {root}, and the target says staging: mount; "
        "leave staging out, or give engine and worker a folder in common as the store"
    )
    return StepError(message)


def pull_failure(container: Container, said: str) -> StepError:
    """Return the error for an image that could not be fetched."""
    reason = _match(_PULL, said) or "{said}"
    return StepError(f"the image {container.image} cannot be fetched: {reason.format(said=_short(said))}")


def image_missing(container: Container, engine: str) -> StepError:
    """Return the error for an image that the engine does not have and must not or cannot fetch."""
    if is_engine_id(container.image):
        remedy = "only an engine knew it by this id: build or load it there again, or push it to a registry"
    else:
        remedy = "the target says pull: never; load it there, or leave pull out"
    return StepError(f"the engine at {engine} does not have the image {container.image}; {remedy}")


def start_failure(container: Container, said: str) -> StepError:
    """Return the error for a container that an engine does not create or start."""
    if found := re.search(r'exec: "(?P<program>(?:[^"\\]|\\.)*)": |exec (?P<path>\S+): ', said):
        named = found["program"] or found["path"]
        if reason := _match(_COMMAND, said):
            return CommandFailedError(f"cannot start {named!r}: {reason.format(image=container.image)}")
    reason = _match(_START, said) or "{said}"
    shown = reason.format(said=_short(said), user=container.user)
    return StepError(f"the engine does not run the container of image {container.image}: {shown}")


def ending(state: Mapping[str, Any], container: Container) -> str | None:
    """Return how a container ended in words; None for success.

    :param state: as the engine describes it when it is inspected.
    """
    code = int(state.get("ExitCode", -1))
    if state.get("Status") != "exited":
        return f"the container did not run to its end: the engine says {state.get('Status')!r}"
    if code == 0:
        return None
    if state.get("OOMKilled"):
        given = f"the {container.target.memory} it may use" if container.target.memory else "the engine's machine"
        return (
            f"the command ran out of memory: it wanted more than {given} (exit code {code}); give the step more memory"
        )
    if code > _SIGNALLED:
        try:
            name = signal.Signals(code - _SIGNALLED).name
        except ValueError:
            return f"the command ended with exit code {code}"
        hint = "; perhaps the engine's machine ran out of memory" if name == "SIGKILL" else ""
        return f"the command ended with exit code {code} ({name}){hint}"
    return f"the command ended with exit code {code}"


def removed(name: str) -> StepError:
    """Return the error for a container that somebody else removed."""
    message = (
        f"the container {name} was removed while the step ran, by a later try of the step or by somebody; "
        "nothing of it is kept"
    )
    return StepStoppedError(message)


def has_no_container(error: Any) -> bool:  # noqa: ANN401 -- docker's NotFound is not typed
    """Say whether what an engine did not find is the container itself, and not a path in it."""
    return "no such container" in str(error.explanation or error).lower()


def engine_lost(engine: str, error: object) -> StepError:
    """Return the error for an engine that went away while the step ran."""
    message = (
        f"the Docker engine at {engine} went away while the step ran ({_short(str(error))}); "
        "nothing is kept of this try: run the step again when the engine is there"
    )
    return StepStoppedError(message)


def unreachable(engine: str, error: object) -> StepError:
    """Return the error for an engine that does not answer, having tried itself to find out why."""
    number = _try_to_reach(engine)
    if number == errno.ENOENT:
        reason = "there is no such socket; start the engine, or name another as host of the compute target"
    elif number in {errno.EACCES, errno.EPERM}:
        reason = "this user may not use the socket; add it to the group docker, or name another host"
    elif number == errno.ECONNREFUSED:
        reason = "nobody listens there; start the engine, or correct host of the compute target"
    elif number:
        reason = f"{os.strerror(number)}; correct host of the compute target, or the network"
    else:
        reason = f"it does not answer as one: {_short(str(error))}; check host and tls of the compute target"
    return StepError(f"no Docker engine can be reached at {engine}: {reason}")


def _try_to_reach(engine: str) -> int:
    """Return the number of the error with which a connection fails; 0 if it does not, or cannot be tried."""
    parts = urlsplit(engine)
    try:
        if parts.scheme in {"unix", "http+unix"}:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(f"{parts.netloc and '/'}{parts.netloc}{parts.path}")
        elif parts.hostname and parts.scheme in {"tcp", "http", "https"}:
            with socket.create_connection((parts.hostname, parts.port or 2375), timeout=5):
                pass
    except OSError as error:
        return error.errno or errno.EHOSTUNREACH
    return 0


def _match(table: tuple[tuple[str, str], ...], said: str) -> str | None:
    return next((reason for pattern, reason in table if re.search(pattern, said, re.IGNORECASE)), None)


def _short(said: str) -> str:
    """Return an engine's words on one line, without what it only says of itself."""
    line = " ".join(said.split())
    for noise in ("failed to create shim task: ", "OCI runtime create failed: ", "runc create failed: "):
        line = line.replace(noise, "")
    return line.removesuffix(": unknown")[:500]
