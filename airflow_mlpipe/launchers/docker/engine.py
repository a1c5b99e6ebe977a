"""The connection of a launcher to a Docker engine, by the provider's hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.docker import failures

if TYPE_CHECKING:
    from airflow_mlpipe.resolving.addresses import Address

TIMEOUT = 60
"""Seconds for one answer of the engine; a command may run and be silent for as long as it likes."""


def connect(address: Address, registry: str | None) -> Any:  # noqa: ANN401 -- the provider's hook is not typed
    """Return a hook whose client is connected, and logged in to a registry.

    :param registry: the Airflow connection with its login, or None.
    :raises StepError: if the engine cannot be reached, or the registry refuses the login.
    """
    from airflow.providers.docker.hooks.docker import DockerHook  # noqa: PLC0415 -- heavy, needed only to run
    from docker import APIClient, TLSConfig  # noqa: PLC0415 -- as above
    from docker.errors import DockerException  # noqa: PLC0415 -- as above

    with address.own_certificates():
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
    hook.get_conn().trust_env = False  # no proxy, and no other certificates: see `Address.own_certificates`
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
