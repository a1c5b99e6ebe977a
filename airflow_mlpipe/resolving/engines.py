"""The Docker engine of a compute target: a client, and what it knows of its images."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving.addresses import Address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from airflow_mlpipe.resolving.logins import LoginOf

_TIMEOUT = 60


@contextmanager
def engine_of(target: DockerCompute | None, login_of: LoginOf, timeout: int = _TIMEOUT) -> Iterator[DockerClient]:
    """Yield a client of a target's engine: its own, that of ``DOCKER_HOST``, or the usual one of this machine.

    :param timeout: seconds for one answer.
    :raises EnvironmentBuildError: if the engine cannot be reached.
    """
    from docker import DockerClient  # noqa: PLC0415 -- for those who have containers
    from docker.errors import DockerException  # noqa: PLC0415 -- as above
    from docker.tls import TLSConfig  # noqa: PLC0415 -- as above

    with tempfile.TemporaryDirectory(prefix="mlpipe-tls-") as folder, ExitStack() as stack:
        address = Address.of(target or DockerCompute(), Path(folder), login_of)
        try:
            tls = TLSConfig(**address.tls) if address.tls else False
            with address.own_certificates():
                client = stack.enter_context(closing(DockerClient(base_url=address.host, tls=tls, timeout=timeout)))
            client.api.trust_env = False  # no other certificates, later either
            client.ping()
        except (DockerException, OSError) as error:
            message = (
                f"the Docker engine {address.host} cannot be reached: {error}: start it, or correct host of the "
                "compute target"
            )
            raise EnvironmentBuildError(message) from error
        yield client


def engine_id(target: DockerCompute | None, image: str, login_of: LoginOf) -> str | None:
    """Return the id that an engine gave to an image, ``sha256:...``; None if it has none of that name.

    :raises ImageUnknownError: if the engine cannot be asked.
    """
    from docker.errors import DockerException, ImageNotFound  # noqa: PLC0415 -- see `engine_of`

    try:
        with engine_of(target, login_of) as client:
            return str(client.images.get(image).id)
    except ImageNotFound:
        return None
    except (DockerException, OSError) as error:
        message = f"the Docker engine does not say which image {image} is: {error}"
        raise ImageUnknownError(message) from error
    except EnvironmentBuildError as error:
        raise ImageUnknownError(str(error)) from error
