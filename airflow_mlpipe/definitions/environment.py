"""`Environment`: the software of a step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.expressions import VALUES, misplaced
from airflow_mlpipe.definitions.faults import Fault, shown
from airflow_mlpipe.definitions.values import Argument

if TYPE_CHECKING:
    from collections.abc import Iterable


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = re.compile(r"(connection:[^\s:]+\.[A-Za-z_][\w.-]*|variable:\S+)\Z")
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
    """The interpreter: a path (relative to the folder of the definition), or a name on the PATH."""
    variables: dict[str, Argument] = Field(default_factory=dict)
    """Environment variables. Values may hold `${{ parameters.x }}` and `${{ run.x }}`."""
    secrets: dict[str, str] = Field(default_factory=dict)
    """Environment variables with values from Airflow: `connection:<id>.<field>` or `variable:<key>`."""
    compare: Literal["strict", "declared", "ignore"] = "strict"
    """What makes it changed: everything observed, only what is declared here, or nothing."""
    image: str | None = None
    """A container image; for targets that run containers."""
    build: dict[str, Any] | None = None
    """How to build the image; for targets that run containers."""
    description: str = ""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow one requirement in place of a list."""
        if isinstance(data, dict) and isinstance(data.get("requirements"), str):
            return {**data, "requirements": tuple(data["requirements"].split("\n"))}
        return data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*self._variable_faults(), *self._secret_faults(), *self._requirement_faults()]

    def _requirement_faults(self) -> list[Fault]:
        return [
            Fault(("requirements", index), "is not a requirement", remedy, shown(line))
            for index, line in enumerate(self.requirements)
            if (remedy := _requirement_remedy(line))
        ]

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

    def interpreter(self, folder: Path) -> str | None:
        """Return the interpreter: an absolute path, or a name to be looked up on the PATH."""
        if self.python is None or "/" not in self.python:
            return self.python
        return str(folder / Path(self.python).expanduser())


def _requirement_remedy(line: str) -> str:
    if not line.strip():
        return "Leave empty lines out"
    if line.strip().startswith("-r"):
        return "Give the file as requirements_file"
    return ""


def _reserved(name: str) -> str:
    beginning = next((word for word in _RESERVED if name.startswith(word)), None)
    return f"{beginning} is set by airflow-mlpipe: choose another name" if beginning else ""
