"""Runs a Python script as one rank of many: ``python -m mlpipe_rank script.py arguments...``.

Staged for the ranks of torchrun and MPI as the module `mlpipe_rank`; it needs nothing installed. The script runs as
``__main__``, as it would by itself, and besides:

- what it prints leaves it line by line, so that the lines of many ranks do not mix;
- a rank that fails says so before the others fail for want of it, so that the right one is named;
- where it uses mpi4py, the failure of one rank ends them all: left to itself, Python would wait in ``MPI_Finalize`` for
  ranks that wait for it;
- where mpi4py belongs to another MPI than mpirun does, every process would be alone without knowing; that is an error.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "RANK")


def main(argv: list[str]) -> int:
    """Run the script that the first argument names, or the module after ``-m``; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=False)
    try:
        _run(argv)
    except SystemExit as ending:
        code = _code_of(ending)
    except BaseException as error:  # noqa: BLE001 -- whatever ends the script ends the rank
        _show(error, argv[0])
        code = 1
    else:
        code = 0
    if code == 0 and (lonely := _alone()):
        print(f"mlpipe: {lonely}", file=sys.stderr)  # noqa: T201 -- a program
        return 1
    if code != 0:
        rank = next((os.environ[name] for name in _RANKS if name in os.environ), "?")
        print(f"mlpipe: rank {rank} ended with exit code {code & 255}", file=sys.stderr)  # noqa: T201
        _end_the_others(code)
    return code


def _run(argv: list[str]) -> None:
    if argv[0] == "-m":
        sys.argv[:] = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = argv
    if not getattr(sys.flags, "safe_path", False):  # else it is no folder that Python put there
        sys.path[0] = os.path.dirname(os.path.realpath(argv[0]))  # noqa: PTH120 -- pathlib takes time to import
    runpy.run_path(argv[0], run_name="__main__")


def _code_of(ending: SystemExit) -> int:
    if ending.code is None or isinstance(ending.code, int):
        return ending.code or 0
    print(ending.code, file=sys.stderr)  # noqa: T201 -- as Python does
    return 1


def _show(error: BaseException, script: str) -> None:
    """Show an error as Python does, without the frames that are ours."""
    found: TracebackType | None = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename != script:
        found = found.tb_next
    own = found or (None if isinstance(error, SyntaxError) else error.__traceback__)
    if sys.excepthook is sys.__excepthook__:
        traceback.print_exception(type(error), error, own)
    else:
        sys.excepthook(type(error), error, own)


def _end_the_others(code: int) -> None:
    """Have mpi4py end all ranks when Python ends."""
    if "mpi4py.MPI" in sys.modules:
        from mpi4py.run import set_abort_status  # noqa: PLC0415 -- of the step's environment, where it uses it

        set_abort_status(code)


def _alone() -> str | None:
    """Return what is wrong if mpi4py does not know the other ranks."""
    mpi: Any = sys.modules.get("mpi4py.MPI")
    told = next((os.environ[name] for name in _SIZES if name in os.environ), None)
    if mpi is None or told is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return None
    found = mpi.COMM_WORLD.Get_size()
    if found == int(told):
        return None
    library = mpi.Get_library_version().split(",")[0].splitlines()[0]
    return (
        f"mpi4py sees {found} of {told} ranks: it uses {library}, and mpirun is of another MPI; "
        "install the mpirun of that one, or an mpi4py for this one"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
