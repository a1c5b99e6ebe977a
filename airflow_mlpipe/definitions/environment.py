"""`Environment`: the software of a step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.expressions import VALUES, misplaced
from airflow_mlpipe.definitions.faults import Fault, shown
from airflow_mlpipe.definitions.imagebuild import ImageBuild, image_remedy
from airflow_mlpipe.definitions.values import Argument

if TYPE_CHECKING:
    from collections.abc import Iterable


PYTHON = "python"
"""The Python of an image, where the environment does not name another."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"(connection:[^\s:]+\.[A-Za-z_][\w.-]*|variable:\S+)\Z")
_VERSION = re.compile(r"\d+(\.\d+)?\Z")
_RESERVED = ("MLPIPE_", "AZUREML_DATAREFERENCE_", "AML_PARAMETER_")


class Environment(Definition):
    """What a step's command finds installed, and which variables it sees.

    Without requirements the interpreter is used as it is, and what the script imports is observed.
    """

    named_by: ClassVar[str | None] = "name"

    name: str | None = None
    """Given by the key in the workspace file."""
    requirements: tuple[str, ...] = ()
    """What to install, as in a requirements file."""
    requirements_file: str | None = None
    """A requirements file, relative to the folder of the definition."""
    python: str | None = None
    """The interpreter: a path (relative to the folder of the definition), or a name on the PATH. In a container: the name of a command in the image, or its absolute path there."""
    variables: dict[str, Argument] = Field(default_factory=dict)
    """Environment variables. Values may hold `${{ parameters.x }}` and `${{ run.x }}`."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variables with values from Airflow: `connection:<id>.<field>` or `variable:<key>`."""
    compare: Literal["strict", "declared", "ignore"] = "strict"
    """What makes it changed: everything observed, only what is declared here, or nothing."""
    image: str | None = None
    """The image that containers are made from, as it is: `python:3.12-slim`, `registry.example.com/team/train:1`."""
    build: ImageBuild | None = None
    """How `mlpipe build` makes the image for containers: a base, system packages, and the requirements of this environment."""
    registry: str | None = None
    """The id of the Airflow connection (of type docker) with the login of the registry that has `image`, or the base of `build`."""
    description: str = ""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow one requirement in place of a list."""
        if isinstance(data, dict) and isinstance(data.get("requirements"), str):
            return {**data, "requirements": tuple(data["requirements"].split("\n"))}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [
            *self._variable_faults(),
            *self._secret_faults(),
            *requirement_faults(self.requirements),
            *self._image_faults(),
        ]

    def _image_faults(self) -> list[Fault]:
        faults = []
        if self.image is not None and self.build is not None:
            message = "is given beside build, which makes another image"
            faults.append(Fault(("image",), message, "Keep one; the image to begin with is build.base", at_key=True))
        if self.image is not None and (remedy := image_remedy(self.image)):
            faults.append(Fault(("image",), "is no name of an image", remedy, shown(self.image)))
        return faults

    def container_faults(self) -> Iterable[Fault]:
        """Yield what of this means nothing in a container."""
        if self.python is not None and "/" in self.python and not self.python.startswith("/"):
            remedy = "Give the name of a command in the image, such as python3, or leave it out"
            yield Fault(("python",), "is a path of this machine, and the step runs in a container", remedy, self.python)
        if (self.requirements or self.requirements_file) and self.build is None and self.compare == "strict":
            message = "are not installed into an image that is taken as it is"
            remedy = "Give build: {base: <image>}, or say compare: declared where the image has them"
            yield Fault(("requirements" if self.requirements else "requirements_file",), message, remedy, at_key=True)

    def local_faults(self) -> Iterable[Fault]:
        """Yield what of this means nothing to a process on the worker."""
        if self.image is not None:
            yield Fault(("image",), "means nothing to a local target", "", shown(self.image))
        elif self.build is not None and (self.build.apt or not (self.requirements or self.requirements_file)):
            yield Fault(("build",), "means nothing to a local target", "", shown(self.build.base))

    def _variable_faults(self) -> list[Fault]:
        faults = []
        for field in ("variables", "secrets"):
            for name in getattr(self, field):
                remedy = "Use letters, digits and '_'" if not _VARIABLE.match(name) else _reserved(name)
                if remedy:
                    faults.append(Fault((field, name), "cannot be a variable", remedy, shown(name), at_key=True))
        for name, text in self.variables.items():
            faults += misplaced(text, ("variables", name), VALUES)
        return faults

    def _secret_faults(self) -> list[Fault]:
        remedy = "Write connection:<id>.<field>, for example connection:warehouse.password, or variable:<key>"
        faults = [
            Fault(("secrets", name), "names no place in Airflow", remedy)  # never shows what was given
            for name, source in self.secrets.items()
            if not _SECRET.match(source)
        ]
        both = [name for name in self.secrets if name in self.variables]
        return faults + [
            Fault(("secrets", name), "is also among variables", "Keep one", shown(name), at_key=True) for name in both
        ]

    def requirements_path(self, folder: Path) -> Path | None:
        """Return the requirements file, given the folder of the definition."""
        return None if self.requirements_file is None else folder / self.requirements_file

    @property
    def command(self) -> str:
        """The Python in an image: the name of a command, or its absolute path there."""
        python = self.python or PYTHON
        return f"python{python}" if _VERSION.match(python) else python

    def interpreter(self, folder: Path) -> str | None:
        """Return the interpreter: an absolute path, or a name to be looked up on the PATH."""
        if self.python is None or "/" not in self.python:
            return self.python
        return str(folder / Path(self.python).expanduser())


def requirement_faults(requirements: Iterable[str]) -> list[Fault]:
    """Return what is wrong with the lines of requirements."""
    return [
        Fault(("requirements", index), "is not a requirement", remedy, shown(line))
        for index, line in enumerate(requirements)
        if (remedy := _requirement_remedy(line))
    ]


def _requirement_remedy(line: str) -> str:
    if not line.strip():
        return "Leave empty lines out"
    if line.strip().startswith("-r"):
        return "Give the file as requirements_file"
    return ""


def _reserved(name: str) -> str:
    beginning = next((word for word in _RESERVED if name.startswith(word)), None)
    return f"{beginning} is set by airflow-mlpipe: choose another name" if beginning else ""
