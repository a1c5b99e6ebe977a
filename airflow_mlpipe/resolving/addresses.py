"""Where a Docker engine is, and how it is reached: by its compute target, else as for the docker command."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_mlpipe.definitions import DockerCompute
    from airflow_mlpipe.resolving.logins import LoginOf

_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DEFAULT = "unix:///var/run/docker.sock"


@dataclass(frozen=True)
class Address:
    """Where an engine is, and the arguments of the SDK's ``TLSConfig``, None where nothing is encrypted."""

    host: str
    tls: dict[str, Any] | None = None

    @classmethod
    def of(cls, target: DockerCompute, folder: Path, login_of: LoginOf) -> Address:
        """Return the address of a target's engine: its own, that of ``DOCKER_HOST``, or the usual one.

        :param folder: takes the certificates that an Airflow connection holds; only this user may read them.
        :raises DataError: if there is no such connection.
        """
        if target.tls is None and target.host is None and "DOCKER_HOST" in os.environ:
            return cls(os.environ["DOCKER_HOST"], _tls_of_variables())
        host = target.host or os.environ.get("DOCKER_HOST", DEFAULT)
        if target.tls is None:
            return cls(host)
        files = {name: getattr(target.tls, name) for name in ("ca", "cert", "key")}
        if target.tls.connection is not None:
            files = _files_of(login_of(target.tls.connection).extra, folder)
        tls: dict[str, Any] = {"verify": target.tls.verify}
        if files["ca"]:
            tls["ca_cert"] = files["ca"]
        if files["cert"] and files["key"]:
            tls["client_cert"] = [files["cert"], files["key"]]
        return cls(host, tls)

    @contextlib.contextmanager
    def own_certificates(self) -> Iterator[None]:
        """Let the engine's own authority count while connecting: these variables would take its place (as requests reads them)."""
        others = {name: os.environ.pop(name) for name in _AUTHORITIES if self.tls and name in os.environ}
        try:
            yield
        finally:
            os.environ.update(others)


def _tls_of_variables() -> dict[str, Any] | None:
    """Return what the variables of the docker command say of TLS."""
    folder, verify = os.environ.get("DOCKER_CERT_PATH"), os.environ.get("DOCKER_TLS_VERIFY")
    if not folder and not verify:
        return None
    place = Path(folder) if folder else Path.home() / ".docker"
    files = {"ca_cert": str(place / "ca.pem"), "client_cert": [str(place / "cert.pem"), str(place / "key.pem")]}
    return {"verify": bool(verify), **files}


def _files_of(texts: Mapping[str, str], folder: Path) -> dict[str, str | None]:
    """Write certificates to files, as the client reads nothing else."""
    files: dict[str, str | None] = dict.fromkeys(("ca", "cert", "key"))
    for name in files:
        if text := texts.get(name):
            path = folder / f"{name}.pem"
            with open(path, "w", opener=_private, encoding="utf-8") as file:
                file.write(text)
            files[name] = str(path)
    return files


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
