"""`ImageBuild`: how an image with an environment's requirements is made; and names of images."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.faults import Fault, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_DIGEST = r"sha256:[0-9a-f]{64}"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_NAME = rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_IMAGE = re.compile(rf"(?:{_NAME}(?::{_TAG})?(?:@{_DIGEST})?|{_DIGEST})\Z")
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?\Z")
_PYTHON = re.compile(r"3\.\d+\Z")


def image_remedy(name: str) -> str:
    """Return what to do about a text that names no image; nothing if it names one."""
    if _IMAGE.match(name):
        return ""
    if "://" in name:
        return f"Leave {name.partition('://')[0]}:// out"
    repository = name.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if repository != repository.lower():
        return "Write the repository in lower case"
    if "@" in name:
        return "A digest is @sha256: and 64 hexadecimal digits"
    return "Write [registry/]repository[:tag], for example python:3.12-slim"


def repository_remedy(name: str) -> str:
    """Return what to do about a text that names no repository of images; nothing if it names one."""
    if re.fullmatch(_NAME, name):
        return ""
    if "://" in name:
        return f"Leave {name.partition('://')[0]}:// out"
    return "Write registry.example.com/team, in lower case and without a tag"


class ImageBuild(Definition):
    """An image made of a base, system packages, and the locked requirements of its environment."""

    base: str
    """The image to begin with; where there are requirements, one that has Python and pip."""
    apt: tuple[str, ...] = ()
    """Packages of Debian or Ubuntu to install."""
    python: str | None = None
    """The version of the Python in the base, such as `3.12`, for which the requirements are locked; the worker's where it is not given."""
    repository: str | None = None
    """The name of the image, below the registry of the workspace; `mlpipe/<name of the environment>` where it is not given."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow the base alone, and a version of Python that YAML reads as a number."""
        if isinstance(data, str):
            return {"base": data}
        if isinstance(data, dict) and isinstance(data.get("python"), float):
            return {**data, "python": getattr(data["python"], "text", str(data["python"]))}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if remedy := image_remedy(self.base):
            yield Fault(("base",), "is no name of an image", remedy, shown(self.base))
        for index, package in enumerate(self.apt):
            if not _PACKAGE.match(package):
                remedy = "Write its name, or name=version, one package an item"
                yield Fault(("apt", index), "is no name of a package", remedy, shown(package))
        if self.python is not None and not _PYTHON.match(self.python):
            yield Fault(("python",), "is no version of Python", "Write 3.12, for example", shown(self.python))
        if self.repository is not None and not _REPOSITORY.match(self.repository):
            remedy = "Write team/name, in lower case, without registry and tag"
            yield Fault(("repository",), "is no name of a repository", remedy, shown(self.repository))


class ImageRegistry(Definition):
    """Where images that `mlpipe build` makes are pushed to."""

    prefix: str
    """The registry and the beginning of the repository: `registry.example.com/team`."""
    connection: str | None = None
    """The id of the Airflow connection (of type docker) with its login."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow the prefix alone."""
        return {"prefix": data} if isinstance(data, str) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        if remedy := repository_remedy(self.prefix):
            yield Fault(("prefix",), "is no place for images", remedy, shown(self.prefix))
