"""An image for containers that see this machine's ``/usr``, with the MPIs, mpi4py and torch in it, which is too much to copy."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.many import MPIRUNS

if TYPE_CHECKING:
    from tests.engine import Engine

MOUNTS = ["/usr:/usr:ro"]
NAME = "mlpipe-tests/many:1"
_COPIED = ("/etc/alternatives", "/etc/openmpi", "/etc/ld.so.cache", "/etc/nsswitch.conf")


def make(engine: Engine) -> str:
    """Make the image unless it is there; return its id."""
    if engine.has(NAME):
        return engine.id_of(NAME)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("bin", "sbin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name, mode in (("usr", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for mpi, program in MPIRUNS.items():
            text = f'#!/bin/sh\nexec {program} "$@"\n'.encode()
            member = tarfile.TarInfo(f"opt/{mpi}/mpirun")
            member.size, member.mode = len(text), 0o755
            tar.addfile(member, io.BytesIO(text))
        for path in (*filter(Path.exists, map(Path, _COPIED)), *Path("/etc").glob("python3*")):
            tar.add(path, arcname=str(path).lstrip("/"))
    return engine._imported(content.getvalue(), NAME)
