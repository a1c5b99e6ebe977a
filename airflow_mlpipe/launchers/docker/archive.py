"""A step directory on its way to an engine that does not see the worker's files, and its outputs on their way back.

What comes back is what a container wrote: its names and links are not trusted.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from airflow_mlpipe.exceptions import DataError, OutputMissingError, StepError
from airflow_mlpipe.launchers.docker.container import INSIDE
from airflow_mlpipe.runtime.collect import REPLACED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_mlpipe.runtime.layout import StepDirectory

_CHUNK = 1 << 20
_END = 512
"""The least that follows the last member of a whole tar file; one that was cut off between two members lacks it."""
_ROOT = (0, 0)
_OTHERS_WRITE = 0o022


def pack(directory: StepDirectory, owner: tuple[int, int] | None) -> Iterator[bytes]:
    """Yield a step directory as a tar file, in pieces; nothing of it is held in memory or written aside.

    :param owner: who may write there in the container, as user and group; everybody may where that is not known.
        Nobody but root may write into inputs.
    """
    reader, writer = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writer, "wb") as file, tarfile.open(fileobj=file, mode="w|", bufsize=_CHUNK) as tar:
                _add_all(tar, directory, owner)
        except BrokenPipeError:  # nobody reads it any more
            pass
        except BaseException as error:  # noqa: BLE001 -- whoever reads raises it
            failed.append(error)

    thread = threading.Thread(target=write, name="pack", daemon=True)
    thread.start()
    with os.fdopen(reader, "rb") as file:
        while chunk := file.read1(_CHUNK):
            yield chunk
    thread.join()
    if failed:
        raise failed[0]


def _add_all(tar: tarfile.TarFile, directory: StepDirectory, owner: tuple[int, int] | None) -> None:
    inputs = os.path.join(directory.root, "inputs")  # noqa: PTH118 -- compared with thousands of names

    def changed(member: tarfile.TarInfo) -> tarfile.TarInfo:
        is_input = f"/{member.name}/".startswith("/./inputs/")
        member.uid, member.gid = _ROOT if is_input else owner or _ROOT
        member.uname = member.gname = ""
        if is_input:
            member.mode &= ~_OTHERS_WRITE
        elif owner is None:
            member.mode |= 0o777 if member.isdir() else 0o666
        return member

    if os.path.isdir(inputs):  # noqa: PTH112 -- as above
        tar.add(directory.root, arcname=".", filter=changed)


def unpack(chunks: Iterable[bytes], target: Path) -> None:
    """Write the tar file of ``outputs/`` into an empty folder, all of it owned by this process.

    Links are made last, so that nothing is written through one; where they lead is judged when outputs are published.

    :raises DataError: if it holds what cannot be data.
    :raises OutputMissingError: if it is no folder.
    :raises StepError: if it did not arrive whole.
    """
    stream = _Stream(chunks)
    links: list[tuple[Path, str]] = []
    try:
        with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", bufsize=_CHUNK) as tar:
            for member in tar:
                _unpack(tar, member, target, links)
            after_all = tar.offset
    except tarfile.TarError as error:
        message = f"the outputs did not come back whole from the engine: {error}; run again"
        raise StepError(message) from error
    if stream.size() < after_all + _END:
        message = "the outputs did not come back whole from the engine: it stopped early; run again"
        raise StepError(message)
    for path, leads_to in links:
        path.symlink_to(leads_to)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, links: list[tuple[Path, str]]) -> None:
    path = _place(member.name, target)
    if path == target and not member.isdir():
        raise OutputMissingError(REPLACED)
    if member.isdir():
        path.mkdir(exist_ok=True, parents=True)
    elif member.islnk():
        os.link(_place(member.linkname, target), path)
    elif member.issym():
        links.append((path, member.linkname))
    elif member.isreg() and (content := tar.extractfile(member)) is not None:
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
    else:
        message = f"the output {member.name!r} is neither file nor folder (a pipe, a device); leave it out"
        raise DataError(message)


def _place(name: str, target: Path) -> Path:
    """Return where a member of ``outputs/`` belongs."""
    _, *parts = name.rstrip("/").split("/")
    if any(part in {"", ".", ".."} for part in parts):
        message = f"an output has the name {name!r}, which leads elsewhere"
        raise DataError(message)
    return target.joinpath(*parts)


def turn_links(outputs: Path) -> None:
    """Make links that lead from one output to another by their path in the container lead there on the worker, too."""
    inside = f"{INSIDE.outputs}/"
    if outputs.is_symlink():  # it is refused when outputs are looked for
        return
    for parent, folders, files in os.walk(outputs):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and (leads_to := os.readlink(path)).startswith(inside):  # noqa: PTH115 -- as written
                path.unlink()
                path.symlink_to(os.path.relpath(outputs / leads_to[len(inside) :], parent))


class _Stream:
    """Chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._size = 0

    def read(self, size: int) -> bytes:
        """Return that many bytes, fewer only at the end."""
        while len(self._held) < size and (chunk := next(self._chunks, b"")):
            self._held += chunk
        found, self._held = self._held[:size], self._held[size:]
        self._size += len(found)
        return found

    def size(self) -> int:
        """Read what is left; return how many bytes there were in all."""
        while self.read(_CHUNK):
            pass
        return self._size
