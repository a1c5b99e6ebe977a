"""A Docker engine for tests: the one of ``DOCKER_HOST``, or the usual one, or else one of our own, started as root.

Its images are made of what this machine has, without any registry: one with Python, one with a shell, and one with a
single program.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = "unix:///var/run/docker.sock"
PYTHON, BUSYBOX, STATIC = "mlpipe-tests/python:1", "mlpipe-tests/busybox:1", "mlpipe-tests/static:1"
_SKIPPED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "__pycache__",
}
"""Parts of a standard library that no test needs."""
_START_SECONDS = 60


def missing() -> str | None:
    """Return why tests cannot have an engine; None if they can."""
    if not find_spec("docker") or not find_spec("airflow.providers.docker"):
        return "the Docker provider is not installed"
    if answers(_given()):
        return None
    if os.environ.get("DOCKER_HOST"):
        return f"no Docker engine answers at DOCKER_HOST ({_given()})"
    if os.geteuid() != 0:
        return "no Docker engine answers, and only root can start one"
    lacking = [name for name in ("dockerd", "busybox") if not shutil.which(name)]
    return f"no Docker engine answers, and there is no {', '.join(lacking)} to start one with" if lacking else None


def answers(host: str) -> bool:
    """Say whether somebody listens at the address of an engine."""
    if not host.startswith("unix://"):
        name, _, port = host.rpartition("//")[2].partition(":")
        with contextlib.suppress(OSError), socket.create_connection((name, int(port or 2375)), timeout=5):
            return True
        return False
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(host.removeprefix("unix://"))
        return True
    return False


def _require() -> None:
    if reason := missing():
        if "docker" in os.environ.get("MLPIPE_REQUIRE", "").replace(" ", "").split(","):
            pytest.fail(f"MLPIPE_REQUIRE names docker, but {reason}", pytrace=False)
        pytest.skip(f"docker: {reason}")


def _given() -> str:
    return os.environ.get("DOCKER_HOST") or USUAL


@dataclass
class Engine:
    """A running engine. ``process`` is that of one of our own."""

    host: str
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None
    prefix: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """Yield the plain client."""
        from docker import APIClient

        client = APIClient(base_url=self.host, version="auto")
        try:
            yield client
        finally:
            client.close()

    def containers(self) -> list[str]:
        """Return the names of the containers of steps that are there, running or not."""
        with self.client() as client:
            found = client.containers(all=True, filters={"label": "mlpipe.claim"})
        return sorted(container["Names"][0].removeprefix("/") for container in found)

    def volumes(self) -> list[str]:
        """Return the volumes that are there."""
        with self.client() as client:
            return sorted(volume["Name"] for volume in client.volumes()["Volumes"] or ())

    def id_of(self, image: str) -> str:
        """Return the id of an image, which is what a step is pinned to where no registry has it."""
        with self.client() as client:
            return str(client.inspect_image(image)["Id"])

    def build(self, files: dict[str, bytes], *, name: str | None = None, changes: tuple[str, ...] = ()) -> str:
        """Make an image that consists of nothing but files, with 0755; return its id."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            for path, data in files.items():
                member = tarfile.TarInfo(path)
                member.size, member.mode = len(data), 0o755
                tar.addfile(member, io.BytesIO(data))
        return self._imported(content.getvalue(), name or f"mlpipe-tests/{uuid.uuid4().hex}:1", changes)

    def _imported(self, tar: bytes, name: str, changes: tuple[str, ...] = ()) -> str:
        repository, _, tag = name.rpartition(":")
        with self.client() as client:
            client.import_image_from_data(tar, repository=repository, tag=tag, changes=list(changes) or None)
        return self.id_of(name)

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        repository, _, tag = name.rpartition(":")
        with self.client() as client:
            client.tag(image, repository, tag)

    def has(self, image: str) -> bool:
        """Say whether an image is there."""
        from docker.errors import ImageNotFound

        with self.client() as client, contextlib.suppress(ImageNotFound):
            return bool(client.inspect_image(image))
        return False

    def make_images(self, *, python: bool = True) -> None:
        """Make the images that tests use, those that are not there yet."""
        busybox = Path(str(shutil.which("busybox"))).resolve().read_bytes()
        if not self.has(BUSYBOX):
            applets = ("sh", "cat", "cp", "echo", "id", "ln", "ls", "mkdir", "mkfifo", "sleep", "chmod", "touch", "dd")
            self._imported(_tar_of(busybox, applets), BUSYBOX)
        if not self.has(STATIC):
            self.build({"busybox": busybox}, name=STATIC)  # nothing else: no shell, no folder, no passwd
        if python and not self.has(PYTHON):
            self._imported(_python(), PYTHON, ("ENV PYTHONPATH=/opt/own",))

    def restart(self, *, wait: float = 0.0) -> None:
        """End an engine of our own and start it again."""
        self.stop()
        time.sleep(wait)
        self.start()

    def start(self) -> None:
        """Start an engine of our own in its folder."""
        if self.folder is None:
            message = "only an engine of our own is started"
            raise RuntimeError(message)
        # of an engine that was killed: where nobody reaps its containerd, the next one would wait for that
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        command = [
            *self.prefix,
            "dockerd",
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            f"--host={self.host}",
            "--shutdown-timeout=2",
            *self.flags,
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves():
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = f"dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def _serves(self) -> bool:
        from docker.errors import DockerException

        with contextlib.suppress(DockerException), self.client() as client:
            return bool(client.ping())
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End an engine of our own."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Yield an engine with the images of tests; one of our own ends with the block, and leaves nothing.

    Skips the test where there is none, or fails it where ``MLPIPE_REQUIRE`` names docker.
    """
    _require()
    if answers(_given()):
        given = Engine(_given())
        given.make_images()
        yield given
        return
    with own_engine() as own:
        own.make_images()
        yield own


@contextlib.contextmanager
def own_engine(*prefix: str, data: str = "", flags: tuple[str, ...] = ()) -> Iterator[Engine]:
    """Yield an engine of our own, without images.

    :param prefix: what its command begins with.
    :param flags: what its command says besides.
    :param data: how large the disk of its images and containers is, for example ``64m``.
    """
    folder = Path(tempfile.mkdtemp(prefix="mlpipe-engine-"))
    own = Engine(f"unix://{folder}/docker.sock", folder=folder, prefix=prefix, flags=flags)
    (folder / "data").mkdir()
    try:
        if data:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={data}", "tmpfs", str(folder / "data")], check=True)
        own.start()
        yield own
    finally:
        own.stop()
        for process in _processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for mounted in _mounts_below(folder):
            subprocess.run(["umount", "-l", mounted], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _processes_of(folder: Path) -> list[int]:
    """Return the processes that an engine which was killed has left: their arguments name its folder."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in command.read_bytes():
                found.append(int(command.parent.name))
    return found


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line.split()[1] for line in reversed(lines) if line.split()[1].startswith(f"{folder}/")]


def _tar_of(busybox: bytes, applets: tuple[str, ...]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("bin/busybox")
        member.size, member.mode = len(busybox), 0o755
        tar.addfile(member, io.BytesIO(busybox))
        for name in applets:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return content.getvalue()


def _python() -> bytes:
    """Return this machine's Python with its standard library and what both need, as a tar file; sh is busybox."""
    executable, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    modules = [path for path in library.rglob("*") if path.is_file() and not _SKIPPED & set(path.parts)]
    needed = {executable, *(path for path in modules if path.suffix == ".so")}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as tar:
        for path in sorted({executable, *modules, *_libraries(needed)}):
            tar.add(path, arcname=str(path).lstrip("/"))
        tar.add(str(shutil.which("busybox")), arcname="bin/sh")
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, str(executable)
            tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return content.getvalue()


def _libraries(programs: set[Path]) -> set[Path]:
    """Return the shared libraries that programs and extension modules load, by the paths under which they do."""
    found: set[Path] = set()
    for program in programs:
        told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        found |= {Path(word) for word in told.split() if word.startswith("/")}
    return found
