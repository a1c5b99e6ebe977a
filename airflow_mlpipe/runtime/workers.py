"""Starts the workers of a TensorFlow step on one machine: ``python -m mlpipe_workers <number> -- command...``.

Staged as the module `mlpipe_workers`; it needs nothing installed. Each worker finds the others in ``TF_CONFIG``, and its
number in ``MLPIPE_RANK`` too. What they print is passed on line by line, with the worker's number before it. When one
fails, the others are ended, and it is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import IO, Any, cast

GRACE = 2.0
"""Seconds that the others have between SIGTERM and SIGKILL when one has failed."""

_CHUNK = 65536
_USAGE = "usage: python -m mlpipe_workers <number of workers> -- <command> ...; there are no options"


def main(arguments: list[str]) -> int:
    """Run the workers to their end; return 0, or the exit code of the first that failed."""
    if len(arguments) < 3 or not arguments[0].isdigit() or arguments[1] != "--":  # noqa: PLR2004 -- number, --, command
        print(f"mlpipe: {_USAGE} (given: {' '.join(arguments)})", file=sys.stderr)  # noqa: T201 -- a program
        return 2
    with _Workers(int(arguments[0]), arguments[2:]) as workers:
        return workers.run()


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def configuration(addresses: list[str], index: int) -> str:
    """Return the value of ``TF_CONFIG`` for a worker."""
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


class _Workers:
    """The running workers: their processes and what they have printed of a line that has not ended."""

    def __init__(self, count: int, command: list[str]) -> None:
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self._command = command
        self._processes: list[subprocess.Popen[bytes]] = []
        self._begun: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Workers:  # noqa: PYI034 -- the package that has `Self` is not in every image
        signal.signal(signal.SIGTERM, _stop)
        try:
            for index in range(len(self._addresses)):
                self._start(index)
        except OSError as error:
            self._end()
            message = f"mlpipe: cannot start {self._command[0]!r}: {error.strerror}"
            raise SystemExit(message) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def run(self) -> int:
        """Pass on what the workers print until all have ended well, or one has not."""
        while True:
            codes = [process.poll() for process in self._processes]
            for index, code in enumerate(codes):
                if code:
                    return self._failed(index, code)
            if None not in codes:
                self._pass_on(drain=True)
                return 0
            self._pass_on(drain=False)

    def _start(self, index: int) -> None:
        variables = {**os.environ, "TF_CONFIG": configuration(self._addresses, index), "MLPIPE_RANK": str(index)}
        process = subprocess.Popen(
            self._command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._processes.append(process)
        self._begun[index] = b""
        self._selector.register(cast("IO[bytes]", process.stdout), selectors.EVENT_READ, index)

    def _failed(self, index: int, code: int) -> int:
        self._pass_on(drain=True)
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        self._end()
        print(f"mlpipe: rank {index} {how}", file=sys.stderr, flush=True)  # noqa: T201 -- a program
        return code if code > 0 else 128 - code

    def _pass_on(self, *, drain: bool) -> None:
        """Print the lines that are there by now; at the end also what has no end of line."""
        ready: list[Any] = self._selector.select(0 if drain else 0.05)
        while ready:
            for key, _ in ready:
                self._read(key)
            ready = self._selector.select(0) if drain and self._selector.get_map() else []
        if drain:
            for index, rest in self._begun.items():
                if rest:
                    _print(index, rest)
            self._begun = dict.fromkeys(self._begun, b"")

    def _read(self, key: selectors.SelectorKey) -> None:
        index, chunk = int(key.data), os.read(key.fd, _CHUNK)
        if not chunk:
            self._selector.unregister(key.fileobj)
            time.sleep(0.001)  # the process itself ends in a moment
        *lines, self._begun[index] = (self._begun[index] + chunk).split(b"\n")
        for line in lines:
            _print(index, line)
        if len(self._begun[index]) > _CHUNK:
            _print(index, self._begun[index])
            self._begun[index] = b""

    def _end(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE
        for process in self._processes:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:  # noqa: PERF203 -- once a worker
                process.kill()
                process.wait()
        self._pass_on(drain=True)


def _print(index: int, line: bytes) -> None:
    sys.stdout.buffer.write(b"[%d] %s\n" % (index, line))
    sys.stdout.buffer.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)  # the workers are ended on the way out


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
