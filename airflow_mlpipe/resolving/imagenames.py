"""Names of images, in full: which registry, which repository, which tag or digest."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_mlpipe.definitions.imagebuild import image_remedy
from airflow_mlpipe.exceptions import EnvironmentBuildError

DOCKER_HUB = "docker.io"

_ALIASES = {"index.docker.io": DOCKER_HUB, "registry-1.docker.io": DOCKER_HUB}
_LOOPBACK = ("localhost", "127.", "[::1]")


@dataclass(frozen=True)
class ImageName:
    """An image: a tag or a digest in a repository of a registry. The id of an engine's own image has a digest only."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name as Docker does: ``python:3.12`` is ``docker.io/library/python:3.12``.

        :raises EnvironmentBuildError: if it is none.
        """
        if remedy := image_remedy(text):
            message = f"{text!r} is no name of an image. {remedy}"
            raise EnvironmentBuildError(message)
        if text.startswith("sha256:"):
            return cls("", "", None, text)
        name, _, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        has_host = bool(slash) and (any(mark in first for mark in ".:[") or first == "localhost" or not first.islower())
        registry, path = (normal_host(first), rest) if has_host else (DOCKER_HUB, name)
        repository, _, tag = path.partition(":")
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, tag or (None if digest else "latest"), digest or None)

    @property
    def name(self) -> str:
        """The registry and the repository."""
        return f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        if not self.repository:
            return str(self.digest)
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")

    def pinned(self, digest: str) -> str:
        """Return the image with this digest, whatever its tag says later."""
        return f"{self.name}@{digest}"


def normal_host(host: str) -> str:
    """Return a registry as names of images say it: without a scheme or a path, Docker Hub by one name."""
    bare = host.partition("://")[2] or host
    bare = bare.partition("/")[0].lower()
    return _ALIASES.get(bare, bare)


def is_loopback(host: str) -> bool:
    """Say whether a registry is on this machine, where the engine speaks plain HTTP to it, too."""
    return host.startswith(_LOOPBACK)
