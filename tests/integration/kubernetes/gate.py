"""The way to the API server, which tests close: to whoever goes through it, the server restarts."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self


class Gate:
    """Carries connections to a server while it is open; used in a ``with`` block."""

    def __init__(self, url: str) -> None:
        self._server = str(urlsplit(url).hostname), urlsplit(url).port or 443
        self._listener: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self.port = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and cut those that there are."""
        if self._listener is not None:
            _cut(self._listener)
            self._listener = None
        while self._ends:
            _cut(self._ends.pop())

    def kubeconfig(self, of: Path, target: Path) -> Path:
        """Write a configuration that leads through here, and is another one's otherwise."""
        config: dict[str, Any] = yaml.safe_load(of.read_text())
        for cluster in config["clusters"]:
            name = cluster["cluster"].get("tls-server-name", urlsplit(cluster["cluster"]["server"]).hostname)
            cluster["cluster"] |= {"server": f"https://127.0.0.1:{self.port}", "tls-server-name": name}
        target.write_text(yaml.safe_dump(config))
        return target

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._server)
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=ends, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        _cut(end)


def _cut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
