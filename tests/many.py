"""What tests of many processes need of this machine: both MPIs, and the Python that Debian's mpi4py and torch belong to.

apt-get install --no-install-recommends openmpi-bin mpich python3-mpi4py python3-torch python3-numpy
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
MPIRUNS = {"openmpi": "mpirun.openmpi", "mpich": "mpirun.mpich"}
TORCH_VARIABLES = {"PET_REDIRECTS": "1", "PET_TEE": "1"}
"""Debian 12's torchrun needs values other than its own defaults, which Python 3.11 does not understand any more."""


@functools.cache
def mpi_missing() -> str | None:
    """Return why there is no MPI to test with; None if there is."""
    lacking = [name for name in MPIRUNS.values() if not shutil.which(name)]
    return f"{', '.join(lacking)} is not on the PATH" if lacking else _module_missing("mpi4py.MPI")


@functools.cache
def torch_missing() -> str | None:
    """Return why there is no torch to test with; None if there is."""
    return _module_missing("torch.distributed.run")


def require(service: str) -> None:
    """Skip a test for want of ``mpi`` or ``torch``, or fail it where ``MLPIPE_REQUIRE`` names that."""
    if reason := {"mpi": mpi_missing, "torch": torch_missing}[service]():
        if service in os.environ.get("MLPIPE_REQUIRE", "").replace(" ", "").split(","):
            pytest.fail(f"MLPIPE_REQUIRE names {service}, but {reason}", pytrace=False)
        pytest.skip(f"{service}: {reason}")


def path_of(mpi: str, folder: Path) -> str:
    """Return a PATH on which one of the MPIs is ``mpirun``; ``none`` for one without any."""
    folder.mkdir(exist_ok=True)
    if mpi != "none":
        program = folder / "mpirun"  # MPICH looks beside it for the rest of itself, so no link
        program.write_text(f'#!/bin/sh\nexec {shutil.which(MPIRUNS[mpi])} "$@"\n')
        program.chmod(0o755)
        return f"{folder}:/usr/bin:/bin"
    for name in ("sh", "python3", "sleep"):
        (folder / name).symlink_to(str(shutil.which(name, path="/usr/bin:/bin")))
    return str(folder)


def _module_missing(name: str) -> str | None:
    if not Path(PYTHON).exists():
        return f"there is no {PYTHON}"
    found = subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True, text=True, check=False)
    return f"{PYTHON} cannot import {name}: {found.stderr.strip().splitlines()[-1]}" if found.returncode else None
