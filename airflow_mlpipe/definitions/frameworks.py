"""`Framework`: the software that an estimator needs. The table of those that are always there; a workspace extends it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.distribution import Starter
from airflow_mlpipe.definitions.environment import Environment, requirement_faults
from airflow_mlpipe.definitions.faults import Fault, Refused, faults_of, shown
from airflow_mlpipe.definitions.imagebuild import ImageBuild, image_remedy
from airflow_mlpipe.definitions.values import Argument

VERSION = "{version}"
"""Where the `framework_version` of an estimator goes."""

_COMPARED = re.compile(r",?\s*(===?|~=|!=|<=?|>=?)\s*" + re.escape(VERSION))
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Framework(Definition):
    """What an estimator with this framework finds installed, where its environment does not say it."""

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    requirements: tuple[str, ...] = ()
    """What to install, as in a requirements file. `{version}` stands for the `framework_version` of the step."""
    packages: tuple[str, ...] = ()
    """One of these must be installed where the worker's own Python is used; the first requirement where not given."""
    image: str | None = None
    """The image of containers; `{version}` in its tag is the `framework_version`, without one the tag falls away."""
    build: ImageBuild | None = None
    """How `mlpipe build` makes the image instead, with the requirements."""
    variables: dict[str, Argument] = Field(default_factory=dict)
    """Environment variables of its steps; those of the environment win."""
    starter: Starter | None = None
    """What starts the processes of a distribution that names no `kind`."""
    description: str = ""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow one requirement, or one package, in place of a list."""
        if not isinstance(data, Mapping):
            return data
        texts = {name: tuple(data[name].split("\n")) for name in _LISTS if isinstance(data.get(name), str)}
        return {**data, **texts} if texts else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        faults = requirement_faults(self.requirements)
        if self.image is not None and self.build is not None:
            message = "is given beside build, which makes another image"
            faults.append(Fault(("image",), message, "Keep one; the image to begin with is build.base", at_key=True))
        faults += self._image_faults()
        try:
            build(Environment, {"variables": self.variables})
        except (ValidationError, Refused) as error:
            faults += faults_of(error)
        return faults

    def _image_faults(self) -> Iterator[Fault]:
        if self.image is None:
            return
        repository, _, tag = self.image.rpartition(":")
        if VERSION in repository or (VERSION in tag and not repository):
            yield Fault(("image",), f"holds {VERSION} outside its tag", "Write <repository>:{version}", self.image)
        elif remedy := image_remedy(self.image.replace(VERSION, "1")):
            yield Fault(("image",), "is no name of an image", remedy, shown(self.image))

    def required(self, version: str | None) -> tuple[str, ...]:
        """Return the requirements for a version; without one they leave open which."""
        if version is None:
            return tuple(_COMPARED.sub("", line).strip() for line in self.requirements)
        return tuple(line.replace(VERSION, version) for line in self.requirements)

    def image_of(self, version: str | None) -> str | None:
        """Return the image for a version; without one the tag that holds it falls away."""
        if self.image is None or VERSION not in self.image:
            return self.image
        if version is not None:
            return self.image.replace(VERSION, version)
        return self.image.rpartition(":")[0]

    @property
    def needed(self) -> tuple[str, ...]:
        """The packages one of which must be installed."""
        return self.packages or tuple(name for line in self.requirements[:1] if (name := package_of(line)))


_LISTS = ("requirements", "packages")


def package_of(requirement: str) -> str:
    """Return the name of the package that a requirement is about, as indexes spell it; empty if it names none."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def _table(*entries: Framework) -> dict[str, Framework]:
    return {str(entry.name): entry for entry in entries}


_SLIM = ImageBuild(base="python:3.12-slim", python="3.12")
"""Most frameworks publish no image with each version in its tag: theirs is built, by `mlpipe build`."""

FRAMEWORKS = _table(
    Framework(name="sklearn", requirements=("scikit-learn=={version}",), build=_SLIM),
    Framework(
        name="xgboost",
        requirements=("xgboost=={version}", "scikit-learn"),
        packages=("xgboost", "xgboost-cpu"),
        build=_SLIM,
    ),
    Framework(name="lightgbm", requirements=("lightgbm=={version}", "scikit-learn"), build=_SLIM),
    Framework(name="pytorch", requirements=("torch=={version}",), build=_SLIM, starter="torchrun"),
    Framework(
        name="tensorflow",
        requirements=("tensorflow=={version}",),
        packages=("tensorflow", "tensorflow-cpu", "tf-nightly"),
        image="tensorflow/tensorflow:{version}",
        starter="tensorflow",
        variables={"TF_CPP_MIN_LOG_LEVEL": "1"},
    ),
    Framework(
        name="huggingface",
        requirements=("transformers[torch]=={version}", "datasets"),
        build=_SLIM,
        starter="torchrun",
        variables={"HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"},
    ),
)
"""The frameworks that are always there, by name."""


def of_workspace(value: object) -> object:
    """Return the frameworks of a workspace: what it does not say of one that is always there stays."""
    return ports.each(value, _framework)


def _framework(value: object, name: str) -> Framework:
    if isinstance(value, Framework):
        return value.model_copy(update={"name": name})
    given = {} if value is None else value
    if not isinstance(given, Mapping):
        return build(Framework, given)
    known = FRAMEWORKS.get(name)
    fields = {} if known is None else {field: getattr(known, field) for field in known.model_fields_set}
    if given.get("image") or given.get("build"):
        fields = {field: item for field, item in fields.items() if field not in {"image", "build"}}
    return build(Framework, {**fields, **given, "name": name})
