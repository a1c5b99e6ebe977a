"""A pod as processes of this machine: the init container, the sidecar, and the wrapped command, ended as a kubelet does."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.layout import StepDirectory
from airflow_mlpipe.runtime.pod import failure
from airflow_mlpipe.runtime.pod.wrapper import wrapped
from airflow_mlpipe.runtime.protocol import StepResult, StepSpec, load_result, to_json
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.snapshots import Snapshot, SourceFile, pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_mlpipe.exceptions import MlpipeError
    from airflow_mlpipe.store.store import Store

FINGERPRINT = "ab" * 32
PROGRAM = [sys.executable, "-m", "airflow_mlpipe.runtime.pod"]

FAKE_BUSYBOX = """#!/bin/sh
case "$0" in */sh) exec /bin/sh "$@";; *) exec "$@";; esac
"""


def tools(folder: Path) -> str:
    """Return a PATH with a busybox on it; where none is installed, one that hands on to the system's programs."""
    if shutil.which("busybox") is None:
        folder.mkdir(exist_ok=True)
        (folder / "busybox").write_text(FAKE_BUSYBOX)
        (folder / "busybox").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@dataclass
class Pod:
    """One pod. Its containers have the same folders that a manifest gives them, at other places."""

    home: Path
    store: Store
    options: dict[str, Any] = field(default_factory=dict)
    claim: str = "claim"
    grace: int = 10
    told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = self.home / "mlpipe"
        self.private = self.home / "private"
        self.credentials = self.home / "credentials"
        for folder in (self.root, self.private, self.credentials):
            folder.mkdir(parents=True, exist_ok=True)
        (self.credentials / "options.json").write_text(json.dumps({"store": self.options}))
        self.processes: list[subprocess.Popen[bytes]] = []

    def snapshot(self, files: dict[str, str]) -> str:
        folder = self.home / "source"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
        snapshot = Snapshot({name: SourceFile(digest_path(folder / name).digest) for name in files})
        pack(self.store, folder, snapshot)
        return snapshot.digest

    def shell(self, script: str, **fields: Any) -> StepSpec:
        """Return the spec of a shell script, and put it where a pod finds it."""
        words = ("sh", "-c", script)
        return self.put(StepSpec("p", "s", "command", command=tuple((word,) for word in words), **fields))

    def put(self, spec: StepSpec) -> StepSpec:
        self.spec = spec
        self.store.write(layout.spec(FINGERPRINT, self.claim), to_json(spec))
        return spec

    def init(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "init"], env=self._environment("init"), capture_output=True, text=True, check=False, timeout=60
        )

    def started(self) -> Pod:
        """Run the init container to its success, and start the sidecar and the command."""
        done = self.init()
        assert done.returncode == 0, done.stdout + done.stderr
        self.start_sidecar()
        self.start_command()
        return self

    def serving(self) -> Pod:
        """Start all, and wait until the sidecar shows its first sign of life."""
        self.started()
        until(lambda: self.store.exists(layout.beat(FINGERPRINT, self.claim)))
        return self

    def start_sidecar(self) -> None:
        self.log = (self.home / "sidecar.log").open("ab")
        self.sidecar = subprocess.Popen(
            [*PROGRAM, "sidecar"], env=self._environment("sidecar"), stdout=self.log, stderr=self.log
        )
        self.processes.append(self.sidecar)

    def start_command(self) -> None:
        directory = StepDirectory(self.root)
        variables = command.environment(self.spec, directory, {}) | {"PATH": os.environ["PATH"]}
        argv = command.arguments(self.spec, directory.places(self.spec))
        self.base = subprocess.Popen(
            wrapped(argv, self.root, max(1, self.grace - 5)), cwd=directory.code, env=variables, start_new_session=True
        )
        self.processes.append(self.base)

    def finish(self) -> int:
        """Wait for the command as a kubelet does, then end the sidecar; return the exit code of the user's container."""
        code = self.base.wait(60)
        self.sidecar.send_signal(signal.SIGTERM)
        self.sidecar.wait(self.grace + 5)
        return code

    def delete(self) -> float:
        """End the pod as a kubelet does: first the user's container, then the sidecar. Return how long it took."""
        began = time.monotonic()
        self.base.send_signal(signal.SIGTERM)
        try:
            self.base.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.kill_command()
        self.sidecar.send_signal(signal.SIGTERM)
        try:
            self.sidecar.wait(max(2.0, self.grace - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            self.sidecar.kill()
            self.sidecar.wait()
        return time.monotonic() - began

    def kill_command(self) -> None:
        """Kill everything in the user's container, as the kernel does when memory runs out."""
        os.killpg(self.base.pid, signal.SIGKILL)
        self.base.wait(10)

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        if hasattr(self, "base"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.base.pid, signal.SIGKILL)

    def result(self) -> StepResult | None:
        """Return the result in the store."""
        try:
            return load_result(json.loads(self.store.read(layout.result(FINGERPRINT, self.claim))))
        except FileNotFoundError:
            return None

    def published(self) -> dict[str, int]:
        """Return the files of the outputs in the store, with their bytes."""
        found = self.store.sizes(layout.outputs(FINGERPRINT, self.claim))
        return {path: size for path, size in found.items() if not path.startswith(".")}

    def failure(self, container: str = "sidecar") -> MlpipeError | None:
        """Return what the termination message of a container tells."""
        path = self.home / f"{container}.message"
        return failure.load(path.read_text()) if path.exists() else None

    def said(self) -> str:
        return (self.home / "sidecar.log").read_text()

    def _environment(self, container: str) -> dict[str, str]:
        return {
            "PATH": tools(self.home / "tools"),
            "HOME": str(self.home),
            "MLPIPE_STORE": self.store.url,
            "MLPIPE_FINGERPRINT": FINGERPRINT,
            "MLPIPE_CLAIM": self.claim,
            "MLPIPE_STEP_DIRECTORY": str(self.root),
            "MLPIPE_STAGING": str(self.private),
            "MLPIPE_GRACE": str(self.grace),
            "MLPIPE_CACHE": str(self.private / "cache"),
            "MLPIPE_CREDENTIALS": str(self.credentials),
            "MLPIPE_TERMINATION_LOG": str(self.home / f"{container}.message"),
            **self.told,
        }
