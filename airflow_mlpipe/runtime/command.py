"""The command of a step: its argument vector, its environment, and how it is started."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime.processes import die_with_parent
from airflow_mlpipe.runtime.protocol import step_variables, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.runtime.layout import StepDirectory
    from airflow_mlpipe.runtime.protocol import Reference, StepSpec

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def arguments(spec: StepSpec, places: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the argument vector, with every reference filled in.

    :raises CommandFailedError: if there is none, or one refers to what the step does not have.
    """
    if not spec.command:
        message = "the step has no command; give it one"
        raise CommandFailedError(message)
    try:
        return ["".join(_text(part, spec, places) for part in argument) for argument in spec.command]
    except KeyError as error:
        message = f"an argument of the command refers to {error}, which the step does not have; declare it"
        raise CommandFailedError(message) from error


def _text(part: str | Reference, spec: StepSpec, places: Mapping[tuple[str, str], str]) -> str:
    if isinstance(part, str):
        return part
    match part.kind:
        case "input" | "output":
            return places[part.kind, part.name]
        case "parameter":
            return text_of(spec.parameters[part.name])
        case "run":
            return spec.run[part.name]
        case "interpreter":
            return interpreter(spec)
        case kind:
            message = f"an argument refers to an unknown kind {kind!r}; a newer airflow-mlpipe may have written it"
            raise CommandFailedError(message)


def interpreter(spec: StepSpec) -> str:
    """Return the Python of the step's environment."""
    return spec.environment.interpreter or sys.executable


def environment(spec: StepSpec, directory: StepDirectory, secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of the command: nothing of ours or of the worker is passed on.

    Variables that the step declares come after the fixed ones and may replace them; what tells the script its inputs,
    outputs and parameters comes after those, and secrets last.
    """
    fixed = {
        "PATH": f"{Path(interpreter(spec)).parent}:{_SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(directory.home),
        "TMPDIR": str(directory.temporary),
    }
    if "PYTHONUSERBASE" in os.environ:  # set by the launcher where the worker's own packages lie there
        fixed["PYTHONUSERBASE"] = os.environ["PYTHONUSERBASE"]
    declared = spec.environment.variables
    ours = {
        "PYTHONPATH": ":".join(filter(None, (str(directory.python), declared.get("PYTHONPATH", "")))),
        "MLPIPE_STEP_DIRECTORY": str(directory.root),
    }
    if spec.checkpoint:
        ours["MLPIPE_CHECKPOINT"] = str(directory.checkpoint)
    return {**fixed, **declared, **ours, **step_variables(spec, directory.places(spec)), **spec.late, **secrets}


def start(argv: list[str], cwd: Path, variables: Mapping[str, str], output: int) -> int:
    """Start the command and return its process id; its output goes to a file descriptor, its input is empty.

    It is killed when this process ends, however that happens.

    :raises CommandFailedError: if it cannot be started, saying why and what to do.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    process = os.fork()
    if process == 0:
        die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that was said
            os._exit(1)
        os.setpgid(0, 0)  # a script that signals its group does not mean the supervisor
        _become(argv, cwd, variables, output, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as failure:
        number = failure.read()
    if number:
        os.waitpid(process, 0)
        raise CommandFailedError(_explain(argv[0], struct.unpack("i", number)[0], cwd, variables))
    return process


def _become(argv: list[str], cwd: Path, variables: Mapping[str, str], output: int, failure: int) -> NoReturn:
    try:
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(cwd)
        os.execvpe(argv[0], argv, dict(variables))  # noqa: S606 -- the user's command, without a shell
    except OSError as error:
        os.write(failure, struct.pack("i", error.errno))
    except ValueError:  # a NUL in an argument
        os.write(failure, struct.pack("i", errno.EINVAL))
    finally:
        os._exit(127)


def _explain(program: str, number: int, cwd: Path, variables: Mapping[str, str]) -> str:
    path = cwd / program if "/" in program else None
    if number == errno.ENOENT and path is not None and path.exists():
        return (
            f"cannot start {program!r}: the interpreter in its first line (#!) does not exist here; correct that line"
        )
    if number == errno.ENOENT:
        where = "in the source directory" if path else f"in the source directory or on PATH ({variables['PATH']})"
        remedy = "check the spelling" + ("" if path else "; a program of the source directory begins with './'")
        return f"cannot start {program!r}: there is no such program {where}; {remedy}"
    if number == errno.EACCES:
        return (
            f"cannot start {program!r}: it is not executable; run `chmod +x` on it, or call it through its interpreter"
        )
    if number == errno.ENOEXEC:
        return f"cannot start {program!r}: it is no program; begin it with a line such as #!/bin/sh"
    if number == errno.E2BIG:
        return f"cannot start {program!r}: its arguments and variables are too long; pass long values in a file"
    return f"cannot start {program!r}: {os.strerror(number)}"
