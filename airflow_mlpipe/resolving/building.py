"""Builds the images of environments, by the Docker SDK; each is named by what is in it, so none is built twice."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving.engines import engine_of
from airflow_mlpipe.resolving.imagebuilds import LOCK_FILE, built_name, dockerfile
from airflow_mlpipe.resolving.imagenames import ImageName
from airflow_mlpipe.store.snapshots import blob_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from docker import DockerClient

    from airflow_mlpipe.definitions import Environment
    from airflow_mlpipe.resolving.images import ContainerTarget, Images

_LAST_LINES = 15
_BUILD_TIMEOUT = 600
"""Seconds of silence after which a build is given up."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Built:
    """An image of an environment. ``fresh`` says that it was built now, ``pushed`` that it lies in a registry."""

    environment: str
    image: str
    fact: str
    fresh: bool
    pushed: bool


def build_image(
    images: Images, environment: Environment, target: ContainerTarget, lock: bytes | None, say: Callable[[str], None]
) -> Built:
    """Build the image of an environment, unless it is there; push it where the workspace names a registry.

    :param lock: the text of the lock of its requirements.
    :param say: takes each line that the build prints.
    :raises ImageUnknownError: if it cannot be found out what the image begins with, or whether it is there.
    :raises EnvironmentBuildError: if it cannot be built or pushed, with the last lines.
    """
    base = images.base(environment, target)
    name = built_name(environment, base.fact, blob_digest(lock) if lock is not None else None)
    place, title = images.place_of(name), environment.name or "without a name"
    pushed = images.registry is not None
    question = images.built_question(name, target)
    try:
        return Built(title, place, images.ask_again(question).fact, fresh=False, pushed=pushed)
    except ImageUnknownError as error:
        if not error.absent:
            raise
    engine = target if isinstance(target, DockerCompute) else None
    with engine_of(engine, images.login_of, _BUILD_TIMEOUT) as client:
        _pull(client, images, environment, target, base.reference)
        files = {"Dockerfile": dockerfile(environment, base.reference, locked=lock is not None).encode()}
        if lock is not None:
            files[LOCK_FILE] = lock
        _build(client, place, files, say)
        if pushed:
            _push(client, images, place, say)
    return Built(title, place, images.ask_again(question).fact, fresh=True, pushed=pushed)


def _pull(
    client: DockerClient, images: Images, environment: Environment, target: ContainerTarget, reference: str
) -> None:
    """Fetch what an image begins with, with its login; a build itself would have none."""
    from docker.errors import APIError  # noqa: PLC0415 -- see `engines`

    question = images.base_question(environment, target)
    name = ImageName.parse(question.image)
    login = images.login(question, name) if name.repository else None
    if reference.startswith("sha256:") or login is None:
        return
    try:
        client.images.pull(reference, auth_config=_auth(login.username, login.password))
    except APIError as error:
        message = f"the image {question.image} cannot be pulled: {error.explanation or error}"
        raise EnvironmentBuildError(message) from error


def _build(client: DockerClient, place: str, files: Mapping[str, bytes], say: Callable[[str], None]) -> None:
    from docker.errors import DockerException  # noqa: PLC0415 -- see `engines`
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- which streams of the SDK let through

    try:
        lines = client.api.build(
            fileobj=_context(files), custom_context=True, tag=place, rm=True, forcerm=True, decode=True
        )
        _follow(lines, f"build {place}", say)
    except (DockerException, HTTPError, OSError) as error:
        message = f"cannot build {place}: {error}"
        raise EnvironmentBuildError(message) from error


def _push(client: DockerClient, images: Images, place: str, say: Callable[[str], None]) -> None:
    from docker.errors import DockerException  # noqa: PLC0415 -- see `engines`
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 -- as above

    name = ImageName.parse(place)
    login = images.login(images.pushed_question(place), name)
    auth = _auth(login.username, login.password) if login else None
    repository, _, tag = place.rpartition(":")
    try:
        lines = client.api.push(repository, tag, stream=True, decode=True, auth_config=auth)
        _follow(lines, f"push {place}", say)
    except (DockerException, HTTPError, OSError) as error:
        message = f"cannot push {place}: {error}"
        raise EnvironmentBuildError(message) from error


def _auth(username: str, password: str) -> dict[str, str]:
    return {"username": username, "password": password}


def _follow(answers: Iterable[Any], what: str, say: Callable[[str], None]) -> None:
    """Hand on what an engine says while it works.

    :raises EnvironmentBuildError: if it fails, with the last lines.
    """
    tail: list[str] = []
    for answer in answers:
        if "error" in answer:
            last = "".join(f"\n  {line}" for line in tail)
            message = f"cannot {what}: {str(answer['error']).strip()}" + (
                f"; it printed at last:{last}" if last else ""
            )
            raise EnvironmentBuildError(message)
        for line in _lines(answer):
            tail = [*tail[1 - _LAST_LINES :], line]
            say(line)


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be read of an answer; the bars of its progress are not."""
    text = str(answer.get("stream") or ("" if "progress" in answer else answer.get("status")) or "")
    for line in _COLOUR.sub("", text).splitlines():
        if line.strip():
            yield line.rstrip()


def _context(files: Mapping[str, bytes]) -> io.BytesIO:
    """Return files as the tar file that an engine builds from; nothing in it depends on when or where."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    packed.seek(0)
    return packed
