"""Debian's docker-registry on loopback, for the time of a block."""

from __future__ import annotations

import http
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "ann", "s3cret-of-ann"
_HASHED = "ann:$2b$04$abcdefghijklmnopqrstuu0gRmIdbXkIHeZPW49JyWcENUlDSYkre"


@dataclass
class Registry:
    host: str
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.config.with_name("registry.log").open("ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", str(self.config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                message = self.config.with_name("registry.log").read_text()[-2000:]
                raise RuntimeError(message)
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def _answers(self) -> bool:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{self.host}/v2/", timeout=5)
        except urllib.error.HTTPError as answer:
            return answer.code == http.HTTPStatus.UNAUTHORIZED
        except OSError:
            return False
        return True


@contextmanager
def serving(folder: Path, *, private: bool = False) -> Iterator[Registry]:
    """Yield a registry whose images lie in a folder; a private one wants USER's password."""
    if not shutil.which("docker-registry"):
        reason = "docker-registry is not installed"
        if "docker" in os.environ.get("MLPIPE_REQUIRE", "").replace(" ", "").split(","):
            pytest.fail(f"MLPIPE_REQUIRE names docker, but {reason}", pytrace=False)
        pytest.skip(reason)
    folder.mkdir(parents=True)
    (folder / "htpasswd").write_text(_HASHED + "\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    auth = f"auth:\n  htpasswd:\n    realm: here\n    path: {folder}/htpasswd\n" if private else ""
    storage = f"storage:\n  filesystem:\n    rootdirectory: {folder}/data\n  delete:\n    enabled: true\n"
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\n{storage}http:\n  addr: {host}\n{auth}")
    registry = Registry(host, config)
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()
