"""The Docker engine of a compute target: a client, and what it knows of its images."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

    from airflow_mlpipe.definitions import DockerCompute
    from airflow_mlpipe.definitions.compute import DockerTls
    from airflow_mlpipe.resolving.logins import LoginOf

_TIMEOUT = 60


@contextmanager
def engine_of(target: DockerCompute | None, login_of: LoginOf, timeout: int = _TIMEOUT) -> Iterator[DockerClient]:
    """Yield a client of a target's engine: its own, that of ``DOCKER_HOST``, or the usual one of this machine.

    :param timeout: seconds for one answer.
    :raises EnvironmentBuildError: if the engine cannot be reached.
    """
    from docker import DockerClient, from_env  # noqa: PLC0415 -- for those who have containers
    from docker.errors import DockerException  # noqa: PLC0415 -- as above

    host = target.host if target else None
    with ExitStack() as stack:
        try:
            if target is None or (host is None and target.tls is None):
                client = from_env(timeout=timeout)
            else:
                tls = _tls(target.tls, login_of, stack)
                client = DockerClient(base_url=host or os.environ.get("DOCKER_HOST"), tls=tls, timeout=timeout)
            stack.callback(client.close)
            client.ping()
        except (DockerException, OSError) as error:
            message = (
                f"the Docker engine {host or os.environ.get('DOCKER_HOST', 'of this machine')} cannot be reached: "
                f"{error}: start it, or correct host of the compute target"
            )
            raise EnvironmentBuildError(message) from error
        yield client


def _tls(tls: DockerTls | None, login_of: LoginOf, stack: ExitStack) -> Any:  # noqa: ANN401 -- the SDK's TLSConfig
    """Return how TLS is spoken; certificates that Airflow keeps lie in a private folder meanwhile."""
    from docker.tls import TLSConfig  # noqa: PLC0415 -- see `engine_of`

    if tls is None:
        return False
    files = {name: getattr(tls, name) for name in ("ca", "cert", "key")}
    if tls.connection is not None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlpipe-")))
        extra = login_of(tls.connection).extra
        files = {name: _written(folder / name, extra[name]) if extra.get(name) else None for name in files}
    pair = (files["cert"], files["key"]) if files["cert"] and files["key"] else None
    return TLSConfig(client_cert=pair, ca_cert=files["ca"], verify=tls.verify)


def _written(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return str(path)


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
