"""Runs a step on this machine: a supervised tree of processes in a step directory of its own."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import site
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import airflow_mlpipe
from airflow_mlpipe.exceptions import StepStoppedError
from airflow_mlpipe.launchers.checkpointing import checkpointed
from airflow_mlpipe.launchers.directory import fill, step_directory
from airflow_mlpipe.launchers.ending import failure, hidden, publish_result, with_lines
from airflow_mlpipe.runtime.collect import check_outputs
from airflow_mlpipe.runtime.observe import observed
from airflow_mlpipe.runtime.output import Lines, Mask, Tail
from airflow_mlpipe.runtime.processes import kill_session
from airflow_mlpipe.runtime.protocol import StepResult, StepSpec, load_result
from airflow_mlpipe.runtime.supervise import LEFTOVER_GRACE, STOP_GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.runtime.external import OpenUri
    from airflow_mlpipe.runtime.layout import StepDirectory
    from airflow_mlpipe.runtime.stage import Staged
    from airflow_mlpipe.store.store import Store

KILL_SECONDS = STOP_GRACE + LEFTOVER_GRACE
"""How long `LocalLauncher.kill` waits for the supervisor to end everything before it is killed itself."""

_START = (
    "import os, sys; sys.path += sys.argv.pop(1).split(os.pathsep); "
    "from airflow_mlpipe.runtime.__main__ import main; sys.exit(main(sys.argv[1:]))"
)
"""Starts the supervisor without `site`: the folders of a large environment cost more than the supervisor itself."""


class LocalLauncher:
    """Runs one step at a time on this machine, and publishes its outputs when it succeeds.

    :param interpreter: returns the Python for the environment of a step, building it where necessary.
    """

    def __init__(self, store: Store, open_uri: OpenUri, interpreter: Callable[[StepSpec], str]) -> None:
        self._store = store
        self._open_uri = open_uri
        self._interpreter = interpreter
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def launch(
        self, spec: StepSpec, fingerprint: str, claim: str, secrets: Mapping[str, str], log: Callable[[str], None]
    ) -> StepResult:
        """Run a step to its end and publish its outputs.

        :param secrets: variables for the command only; their values are hidden in what it prints.
        :param log: receives what the command prints, line by line, while it runs.
        :raises CommandFailedError: if the command fails, with its last lines.
        :raises StepError: if it leaves an output unwritten, writes into its inputs or logs what is no metric; what it
            wrote is kept, and the message says where.
        :raises DataError: if an input cannot be staged or is not what was bound.
        """
        spec = replace(spec, environment=replace(spec.environment, interpreter=self._interpreter(spec)))
        hide = Mask(secrets.values()).hide
        with step_directory(self._store, claim) as root, hidden(hide):
            staged = fill(self._store, spec, root, self._open_uri)
            with checkpointed(self._store, staged, fingerprint, log):
                result = self._run(staged, secrets, log)
            staged.check_inputs()
            check_outputs(staged.directory, spec.outputs, lambda line: log(hide(line)), spec.distribution)
            if spec.environment.observe:
                began = staged.directory.spec.stat().st_ctime_ns
                names = observed(str(spec.environment.interpreter), staged.directory.imports, began)
                result = replace(result, observed=names)
            return publish_result(self._store, staged, fingerprint, claim, result)

    def kill(self) -> None:
        """End the command and everything it started; may be called at any time, more than once, by a signal handler."""
        self._killed = True
        if self._process is not None and self._process.returncode is None:
            _stop(self._process)

    def _run(self, staged: Staged, secrets: Mapping[str, str], log: Callable[[str], None]) -> StepResult:
        """Run the command to its success; however it ends, the store keeps nothing that it changed."""
        try:
            result = self._supervise(staged.directory, secrets, log)
        except BaseException:
            staged.discard_damaged()
            raise
        if result.error is not None:
            staged.discard_damaged()
            if self._killed:
                raise StepStoppedError(with_lines(str(result.error), result.tail))
            raise failure(result)
        return result

    def _supervise(
        self, directory: StepDirectory, secrets: Mapping[str, str], log: Callable[[str], None]
    ) -> StepResult:
        if self._killed:
            message = "the step was stopped before its command began"
            raise StepStoppedError(message)
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as control:
            try:
                self._process = _start_supervisor(directory, reader)
            finally:
                os.close(reader)
            try:
                with contextlib.suppress(BrokenPipeError):
                    control.write(json.dumps(dict(secrets)).encode() + b"\n")
                    control.flush()
                tail = _follow(self._process, log)
            except BaseException:
                _stop(self._process)
                raise
            finally:
                _reap(self._process, directory)
        return _read_result(directory, self._process.returncode, tail)


def _start_supervisor(directory: StepDirectory, control: int) -> subprocess.Popen[bytes]:
    package = str(Path(airflow_mlpipe.__file__).parent.parent)
    path = os.pathsep.join([package, *filter(None, sys.path)])
    command = [sys.executable, "-I", "-S", "-c", _START, path, str(directory.root), "--control", str(control)]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        cwd="/",
        env=_supervisor_environment(),
        pass_fds=(control,),
        start_new_session=True,
    )


def _supervisor_environment() -> dict[str, str]:
    """Return the little that this very Python needs, and where its user's own packages lie if it uses them."""
    variables = {"LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:
        variables["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    if site.ENABLE_USER_SITE and site.getusersitepackages() in sys.path:
        variables["PYTHONUSERBASE"] = site.getuserbase()
    return variables


def _follow(process: subprocess.Popen[bytes], log: Callable[[str], None]) -> Tail:
    """Hand the output on line by line until the supervisor closes it; return its end."""
    lines, tail = Lines(), Tail()
    while process.stdout is not None and (chunk := os.read(process.stdout.fileno(), 65536)):
        tail.feed(chunk)
        for line in lines.feed(chunk):
            log(line)
    for line in lines.rest():
        log(line)
    return tail


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the supervisor end everything; if it does not, kill its session."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
        if not _ends(process.pid, KILL_SECONDS):
            kill_session(process.pid)


def _reap(process: subprocess.Popen[bytes], directory: StepDirectory) -> None:
    """Wait for the supervisor; if it was killed, end what is left of its session.

    The session is signalled before its leader is reaped, while nobody else can have its number.
    """
    _ends(process.pid, math.inf)
    if process.stdout is not None:
        process.stdout.close()
    if not directory.result.exists():
        kill_session(process.pid)
        link = directory.short_temporary
        if link.is_symlink() and link.readlink() == directory.temporary:
            link.unlink()
    process.wait()


def _ends(process: int, seconds: float) -> bool:
    """Wait for a child to end, without taking its exit status from whoever waits for it properly."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _read_result(directory: StepDirectory, code: int, tail: Tail) -> StepResult:
    try:
        return load_result(json.loads(directory.result.read_bytes()))
    except FileNotFoundError as error:
        message = f"the supervisor ended with code {code} before it could say how the command ended"
        hint = "; perhaps the machine ran out of memory, or somebody killed it" if code < 0 else ""
        raise StepStoppedError(with_lines(message + hint, tail.lines())) from error
