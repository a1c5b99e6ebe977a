"""The engine's client as the provider's operator is handed it.

The operator itself pulls, creates, attaches, starts and waits; what it has no argument for is added where it passes: real
CPU limits, what is to be in the container before it starts, and a stream of lines in which no secret stands.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.docker import failures
from airflow_mlpipe.launchers.docker.container import beside, is_engine_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_mlpipe.launchers.docker.container import Container
    from airflow_mlpipe.launchers.docker.output import Output

_HEADER = 8
"""Bytes before each piece: which stream it is of, and in the last four of them how long it is."""
_CHUNK = 64 * 1024


class Client:
    """The engine's client as the operator sees it; what is not said here is the plain client's.

    :param before_start: is called with the id of the container that was created, before it starts.
    :param check: raises if the step was stopped meanwhile.
    """

    def __init__(  # noqa: PLR0913 -- what passes through it
        self,
        client: Any,  # noqa: ANN401 -- docker.APIClient, which is not typed
        container: Container,
        output: Output,
        engine: str,
        before_start: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._client = client
        self._container = container
        self._output = output
        self._engine = engine
        self._before_start = before_start
        self._check = check
        self.created: str | None = None
        self.creating = False
        """Whether the engine was asked to create it, and has not answered."""
        self.pulling = False
        self.started = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- whatever the client has
        return getattr(self._client, name)

    def images(self, name: str) -> list[str]:
        """Return the image if the engine has it: the plain client does not find one by its id."""
        from docker.errors import ImageNotFound  # noqa: PLC0415 -- heavy, needed only to run

        try:
            return [self._client.inspect_image(name)["Id"]]
        except ImageNotFound as error:
            if is_engine_id(name) or self._container.target.pull == "never":
                raise failures.image_missing(self._container, self._engine) from error
            return []

    def pull(self, image: str, **how: Any) -> Iterator[Any]:  # noqa: ANN401 -- the operator's arguments
        """Yield the progress of a pull; unlike the plain client's, it fails where the engine only reports a failure."""
        self.pulling = True
        for news in self._client.pull(image, **how):
            self._check()
            if isinstance(news, dict) and "error" in news:
                raise failures.pull_failure(self._container, str(news["error"]))
            yield news
        self.pulling = False

    def create_host_config(self, **how: Any) -> Any:  # noqa: ANN401 -- the operator's arguments
        """Return the host configuration with limits that the operator has no arguments for."""
        limits = self._container.limits()
        if "nano_cpus" in limits:
            how.pop("cpu_shares", None)  # a limit, in place of the operator's weight
        return self._client.create_host_config(**how, **limits)

    def create_container(self, **how: Any) -> Any:  # noqa: ANN401 -- the operator's arguments
        """Create the container, with what its image says of the variables that are also ours, and remember its id."""
        from docker.errors import APIError  # noqa: PLC0415 -- heavy, needed only to run

        image = self._client.inspect_image(how["image"])["Config"] or {}
        how["environment"] = beside(self._container.spec, how["environment"], image.get("Env") or ())
        self.creating = True
        try:
            created = self._client.create_container(**how)
        except APIError:
            self.creating = False
            raise
        self.created, self.creating = str(created["Id"]), False
        return created

    def attach(self, **how: Any) -> Iterator[bytes]:  # noqa: ANN401 -- the operator's arguments
        """Return the stream of what is printed; all of it goes to our output, nothing to the operator's log."""
        params = {name: int(bool(how.get(name))) for name in ("stdout", "stderr", "stream")}
        return self._follow(_frames(self._client.attach_socket(how["container"], params)))

    def start(self, container: str) -> None:
        """Start the container when everything is in it."""
        self._before_start(container)
        self._check()
        self._client.start(container)
        self.started = True

    def _follow(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        for stream, piece in pieces:
            self._output.take(stream, piece)
        self._output.end()
        yield from ()


def _frames(connection: Any) -> Iterator[tuple[int, bytes]]:  # noqa: ANN401 -- a socket, one of TLS, or a file over one
    """Yield what a container prints as it comes, in pieces of its standard output (1) and error (2).

    The plain client waits for the socket to be readable before each read; over TLS what it waits for may have been
    decrypted already, and then a line came only with the next one.
    """
    waiting = getattr(connection, "_sock", connection)
    if hasattr(waiting, "settimeout"):
        waiting.settimeout(None)  # a command may be silent
    read = getattr(connection, "recv", None) or connection.read
    held = b""
    with closing(connection), closing(getattr(connection, "_response", connection)):  # which holds the socket itself
        while chunk := read(_CHUNK):
            held += chunk
            while len(held) >= _HEADER and len(held) >= (end := _HEADER + int.from_bytes(held[4:_HEADER], "big")):
                yield held[0], held[_HEADER:end]
                held = held[end:]
