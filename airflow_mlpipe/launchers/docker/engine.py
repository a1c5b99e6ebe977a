"""A Docker engine: where it is, and how it is reached."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker import failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlpipe.definitions import DockerCompute

_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
DEFAULT = "unix:///var/run/docker.sock"
TIMEOUT = 60
"""Seconds for one answer of the engine; a command may run and be silent for as long as it likes."""


@dataclass(frozen=True)
class Address:
    """Where an engine is, and the files that a connection to it takes."""

    host: str
    tls: dict[str, Any] | None = None

    @classmethod
    def of(cls, target: DockerCompute, folder: Path) -> Address:
        """Return the address of a target's engine: its own, that of ``DOCKER_HOST``, or the usual one.

        :param folder: takes the certificates that an Airflow connection holds; only this user may read it.
        """
        if target.tls is None and target.host is None and "DOCKER_HOST" in os.environ:
            return cls(os.environ["DOCKER_HOST"], _tls_of_variables())
        host = target.host or os.environ.get("DOCKER_HOST", DEFAULT)
        if target.tls is None:
            return cls(host)
        files = {name: getattr(target.tls, name) for name in ("ca", "cert", "key")}
        if target.tls.connection is not None:
            files = _files_of(target.tls.connection, folder)
        tls: dict[str, Any] = {"verify": target.tls.verify}
        if files["ca"]:
            tls["ca_cert"] = files["ca"]
        if files["cert"]:
            tls["client_cert"] = [files["cert"], files["key"]]
        return cls(host, tls)


def _tls_of_variables() -> dict[str, Any] | None:
    """Return what the variables of the docker command say of TLS."""
    folder, verify = os.environ.get("DOCKER_CERT_PATH"), os.environ.get("DOCKER_TLS_VERIFY")
    if not folder and not verify:
        return None
    place = Path(folder) if folder else Path.home() / ".docker"
    files = {"ca_cert": str(place / "ca.pem"), "client_cert": [str(place / "cert.pem"), str(place / "key.pem")]}
    return {"verify": bool(verify), **files}


def _files_of(connection: str, folder: Path) -> dict[str, str | None]:
    """Write the certificates of an Airflow connection to files, as the client reads nothing else."""
    from airflow_mlpipe.hooks.connections import secret  # noqa: PLC0415 -- needed only here

    files: dict[str, str | None] = {}
    for name in ("ca", "cert", "key"):
        path = folder / f"{name}.pem"
        with open(path, "w", opener=_private, encoding="utf-8") as file:
            file.write(secret(f"connection:{connection}.{name}"))
        files[name] = str(path)
    return files


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def connect(address: Address, registry: str | None) -> Any:  # noqa: ANN401 -- the provider's hook is not typed
    """Return a hook whose client is connected, and logged in to a registry.

    :param registry: the Airflow connection with its login, or None.
    :raises StepError: if the engine cannot be reached, or the registry refuses the login.
    """
    from airflow.providers.docker.hooks.docker import DockerHook  # noqa: PLC0415 -- heavy, needed only to run
    from docker import APIClient, TLSConfig  # noqa: PLC0415 -- as above
    from docker.errors import DockerException  # noqa: PLC0415 -- as above

    with _own_certificates(address):
        try:
            tls = TLSConfig(**address.tls) if address.tls else False
            client = APIClient(base_url=address.host, version="auto", tls=tls, timeout=TIMEOUT)
        except DockerException as error:
            raise failures.unreachable(address.host, error) from error
        hook = DockerHook(docker_conn_id=registry, base_url=address.host, version="auto", tls=tls, timeout=TIMEOUT)
        if registry is None:
            hook.api_client = client
        else:
            _log_in(hook, registry)
            client.close()
    hook.get_conn().trust_env = False  # no proxy, and no other certificates: see `_own_certificates`
    return hook


def _log_in(hook: Any, registry: str) -> None:  # noqa: ANN401 -- as above
    from docker.errors import DockerException  # noqa: PLC0415 -- as above

    try:
        hook.get_conn()
    except DockerException as error:
        message = f"the login to the registry of the Airflow connection {registry!r} fails: {error}; correct it there"
        raise StepError(message) from error
    except Exception as error:
        message = f"the Airflow connection {registry!r} cannot be used for a registry: {error}; give it host and login"
        raise StepError(message) from error


@contextlib.contextmanager
def _own_certificates(address: Address) -> Iterator[None]:
    """Let an engine's own authority count while connecting: these variables would take its place (as requests reads them)."""
    others = {name: os.environ.pop(name) for name in _AUTHORITIES if address.tls and name in os.environ}
    try:
        yield
    finally:
        os.environ.update(others)
