"""Supervises the command of a step: runs it, passes on what it prints, ends whatever it started, writes the result.

The result is written last, when no descendant is left, so whoever finds it finds outputs that nobody writes to.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import MlpipeError, StepError
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.distribution import command_line
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.metrics import read_metrics
from airflow_mlpipe.runtime.output import Mask, Tail
from airflow_mlpipe.runtime.processes import adopt_orphans, die_with_parent, end_all, name_of, reap
from airflow_mlpipe.runtime.protocol import StepResult, load_spec, to_json
from airflow_mlpipe.runtime.tagged import untangled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from airflow_mlpipe.runtime.protocol import StepSpec
    from airflow_mlpipe.runtime.tagged import Untagged

LEFTOVER_GRACE = 1.0
"""Seconds that processes left behind by a finished command have between SIGTERM and SIGKILL."""
STOP_GRACE = 5.0
"""Seconds that a command has to end by itself when the step is stopped."""

LAUNCHER_ENDED = "the launcher has ended"

_CHUNK = 64 * 1024
_WRITE = 4096  # what a pipe that is ready takes without blocking
_LONGEST_TEMPORARY = 60
_DRAIN_SECONDS = 0.5
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def supervise(root: Path, secrets: Mapping[str, str], control: int | None = None, output: int = 1) -> StepResult:
    """Run the command of a step directory to its end and write ``result.json``.

    :param control: a pipe whose other end the launcher holds open; when it closes, everything is ended.
    :param output: the file descriptor that receives what the command prints.
    """
    directory = StepDirectory(root.resolve())
    spec = _read_spec(directory)
    adopt_orphans()
    die_with_parent(signal.SIGTERM)
    begun = time.monotonic()
    with _signals() as wakeup, _short_temporary(directory) as temporary:
        run = _Command(Mask(secrets.values()), untangled(spec), wakeup, control, output)
        variables = command.environment(spec, directory, secrets)
        if variables["TMPDIR"] == str(directory.temporary):  # not declared otherwise
            variables |= temporary
        error = run.run(spec, directory, variables)
    seconds = time.monotonic() - begun
    result = _result(run, error, seconds, directory, spec)
    _write(directory.result, to_json(result))
    return result


def _read_spec(directory: StepDirectory) -> StepSpec:
    """Read the spec without what its inputs contain: nothing here asks, and its type takes long to import."""
    data = json.loads(directory.spec.read_bytes())
    for bound in data.get("inputs", {}).values():
        bound.pop("content", None)
    return load_spec(data)


class _Command:
    """One running command: its pipes, what is known of its end."""

    def __init__(self, mask: Mask, lines: Untagged, wakeup: int, control: int | None, output: int) -> None:
        self.tail = Tail()
        self.exit_code: int | None = None
        self._process = 0
        self._mask = mask
        self._lines = lines
        self._pending = b""
        self._wakeup = wakeup
        self._control = control
        self._output: int | None = output
        self._pipe: int | None = None
        self._stopped: str | None = None

    def run(self, spec: StepSpec, directory: StepDirectory, variables: Mapping[str, str]) -> str | None:
        """Run to the end; return what went wrong besides the exit code."""
        self._pipe, writer = os.pipe()
        try:
            argv = command_line(spec, directory.places(spec))
            self._process = command.start(argv, directory.code, variables, writer)
        except MlpipeError as error:
            return str(error)
        finally:
            os.close(writer)
        while self.exit_code is None and self._stopped is None:
            self._turn(None)
        left = end_all(STOP_GRACE if self._stopped else LEFTOVER_GRACE, self._turn, self._ended)
        self._drain(wait=not left)
        if left:
            names = ", ".join(name_of(process) for process in left)
            return f"processes it started cannot be ended: {names}; end them, and do not start such from a step"
        return self._stopped

    def hide(self, text: str) -> str:
        """Return a text without secrets."""
        return self._mask.hide(text)

    def _turn(self, seconds: float | None) -> None:
        """Wait for something to do, at most so long, and do it."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._control is not None:
            poll.register(self._control, 0)  # only its end is of interest
        if self._pending and self._output is not None:
            poll.register(self._output, select.POLLOUT)
        elif self._pipe is not None:
            poll.register(self._pipe, select.POLLIN)
        for ready, _ in poll.poll(None if seconds is None else seconds * 1000):
            if ready == self._wakeup:
                self._signals_arrived()
            elif ready == self._control:
                self._control, self._stopped = None, LAUNCHER_ENDED
            elif ready == self._output:
                self._show()
            else:
                self._read()

    def _signals_arrived(self) -> None:
        for number in os.read(self._wakeup, 512):
            if number in _STOPPING and self._stopped is None:
                self._stopped = f"it was stopped by {signal.Signals(number).name}"
        with contextlib.suppress(ChildProcessError):
            if self.exit_code is None:
                for process, code in reap():
                    self._ended(process, code)

    def _ended(self, process: int, code: int) -> None:
        if process == self._process:
            self.exit_code = code

    def _read(self) -> None:
        if self._pipe is None:
            return
        chunk = os.read(self._pipe, _CHUNK)
        if chunk:
            self._take(self._mask.feed(self._lines.feed(chunk)))
        else:
            os.close(self._pipe)
            self._pipe = None
            self._take(self._mask.feed(self._lines.rest()) + self._mask.rest())

    def _take(self, shown: bytes) -> None:
        self.tail.feed(shown)
        if self._output is not None:
            self._pending += shown

    def _show(self) -> None:
        """Pass on a piece that does not block, so that a launcher that does not read cannot hold us."""
        if self._output is None:
            return
        try:
            written = os.write(self._output, self._pending[:_WRITE])
            self._pending = self._pending[written:]
        except OSError:  # nobody listens any more; the command goes on
            self._output, self._pending = None, b""

    def _drain(self, *, wait: bool) -> None:
        """Pass on what is left in the pipe; to its end only if it surely has one and somebody reads it."""
        patience = time.monotonic() + _DRAIN_SECONDS
        while self._pipe is not None or self._pending:
            if (self._stopped or not wait) and time.monotonic() > patience:
                return
            self._turn(_DRAIN_SECONDS / 10)


def _result(run: _Command, error: str | None, seconds: float, directory: StepDirectory, spec: StepSpec) -> StepResult:
    values: dict[str, float] = {}
    if error is None:
        error = _of_rank(ending(run.exit_code), run, spec)
    if error is None:
        try:
            values = read_metrics(directory.metrics, run.hide)
        except StepError as bad:
            error = str(bad)
    return StepResult(exit_code=run.exit_code, error=error, tail=run.tail.lines(), seconds=seconds, metrics=values)


def ending(exit_code: int | None) -> str | None:
    """Return what an exit code means in words; None for success."""
    if exit_code is None or exit_code == 0:
        return None
    if exit_code > 0:
        return f"the command ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = "; perhaps the machine ran out of memory" if name == "SIGKILL" else ""
    return f"the command was ended by {name}{hint}"


def _of_rank(error: str | None, run: _Command, spec: StepSpec) -> str | None:
    """Return how a command ended, with the rank that failed first where it was many."""
    if error is None or spec.distribution is None:
        return error
    from airflow_mlpipe.runtime.ranks import explained  # noqa: PLC0415 -- each start counts, and few steps are many

    return explained(error, spec.distribution, run.tail.lines())


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(content)
    aside.replace(path)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Turn signals into bytes on a pipe, so that one wait sees them and the output alike."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    before = {number: signal.signal(number, _note) for number in (signal.SIGCHLD, *_STOPPING)}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Let Python write the signal's number to the pipe."""


@contextlib.contextmanager
def _short_temporary(directory: StepDirectory) -> Iterator[dict[str, str]]:
    """Give the script's TMPDIR a short name where its path is long: a socket's path has at most 107 bytes."""
    if len(os.fsencode(directory.temporary)) <= _LONGEST_TEMPORARY:
        yield {}
        return
    link = directory.short_temporary
    try:
        link.symlink_to(directory.temporary)
    except FileExistsError:  # of somebody else; the script does without
        yield {}
        return
    try:
        yield {"TMPDIR": str(link)}
    finally:
        link.unlink(missing_ok=True)
