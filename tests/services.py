"""A storage service that can be out of reach: a filesystem in memory, behind a network of our own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Service(MemoryFileSystem):
    """Answers ``service://`` URLs while it can be reached."""

    protocol = "service"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as in the class it is made from
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    down: set[str] = set()  # noqa: RUF012 -- the calls that fail


def _failing(name: str) -> Callable[..., Any]:
    def call(self: Service, *args: Any, **kwargs: Any) -> Any:
        if name in Service.down:
            raise ConnectionError(f"no route to the service ({name})")  # noqa: EM102, TRY003 -- as a client says it
        return getattr(MemoryFileSystem, name)(self, *args, **kwargs)

    return call


READS = frozenset({"ls", "info", "exists", "isfile", "cat_file", "find"})
WRITES = frozenset({"pipe_file", "put_file", "rm", "rm_file", "makedirs"})

for _name in READS | WRITES:
    setattr(Service, _name, _failing(_name))

fsspec.register_implementation("service", Service, clobber=True)


@contextmanager
def unreachable(calls: frozenset[str] = READS | WRITES) -> Iterator[None]:
    """Let calls of the service fail for the time of a block."""
    Service.down.update(calls)
    try:
        yield
    finally:
        Service.down.clear()
