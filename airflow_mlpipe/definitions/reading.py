"""From the text of a file to a definition, or to everything that is wrong with it at once.

Where something is wrong, it is set aside and the rest is looked at again, until nothing new is found: so a misspelt
key in one step does not hide a dangling reference in another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.faults import Fault, Path, Refused, faults_of
from airflow_mlpipe.definitions.sequence import StepSequence
from airflow_mlpipe.definitions.yaml_nodes import TWICE, Reader, compose, place
from airflow_mlpipe.exceptions import DefinitionError, Problem

if TYPE_CHECKING:
    import yaml

D = TypeVar("D", bound=Definition)

MAX_LOOKS = 10

_STAND_INS = {"script_name": "missing.py", "entry_script": "missing.py", "command": "true"}
"""What stands in for a required field while the rest of its step is looked at."""


@dataclass
class Looked(Generic[D]):
    """A file that was looked at: the definition (None where it could not be made), and what is wrong so far."""

    file: str
    root: yaml.Node | None
    definition: D | None = None
    problems: list[Problem] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    renamed: dict[Path, Path] = field(default_factory=dict)
    """Where the fields stand in the file whose keys were misspelt."""
    doubled: bool = False
    """Whether something is there twice, so that what is said of all of them may be wrong."""

    def add(self, faults: Iterable[Fault]) -> None:
        """Take in more that is wrong, but for what only follows from what was set aside."""
        for fault in faults:
            if not self._follows(fault):
                line, column = place(self.root, self._written(fault.path), at_key=fault.at_key)
                problem = fault.problem(self.file, line, column)
                self.problems += [problem] if problem not in self.problems else []

    def _follows(self, fault: Fault) -> bool:
        if fault.of_all and self.doubled:
            return True
        abouts = [about for about in (fault.about, fault.path) if about]
        return any(
            any(_within(path, about) for about in abouts) or (fault.of_all and _within(fault.path, path))
            for path in self.aside
        )

    def _written(self, path: Path) -> Path:
        known = (length for length in range(len(path), 0, -1) if path[:length] in self.renamed)
        length = next(known, 0)
        return (*self.renamed[path[:length]], *path[length:]) if length else path

    def sound(self) -> D:
        """Return the definition.

        :raises DefinitionError: with everything that is wrong.
        """
        if self.problems or self.definition is None:
            raise DefinitionError(self.problems)
        return self.definition


def look(cls: type[D], text: str, file: str, context: Mapping[str, Any] | None = None) -> Looked[D]:
    """Return the definition that a text holds, with what is wrong with it.

    :raises DefinitionError: if the text is not YAML.
    """
    root = compose(text, file)
    reader = Reader()
    data = reader.data(root)
    looked: Looked[D] = Looked(file, root)
    for node, fault in reader.faults:
        looked.doubled |= fault.message == TWICE
        looked.problems.append(fault.problem(file, node.start_mark.line + 1, node.start_mark.column + 1))
    if not isinstance(data, Mapping):
        looked.problems.append(_no_mapping(data, file))
        return looked
    try:
        looked.definition = build(cls, _in_sequence(data), context)
    except (ValidationError, Refused) as error:
        _look_on(looked, cls, copy.deepcopy(data), context, faults_of(error))
    return looked


def _no_mapping(data: object, file: str) -> Problem:
    message = "is empty" if data is None else "is not a mapping of fields to values"
    return Problem(file, 1, 1, "", message, "Write one `field: value` a line, beginning with name:")


def _in_sequence(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """In YAML a list of steps runs in order."""
    return {**data, "steps": StepSequence(data["steps"])} if isinstance(data.get("steps"), list) else data


def _look_on(looked: Looked[D], cls: type[D], data: Any, context: Any, faults: tuple[Fault, ...]) -> None:  # noqa: ANN401 -- plain data
    for _ in range(MAX_LOOKS):
        looked.add(faults)
        aside = [path for fault in sorted(faults, key=_from_behind) if (path := _set_aside(data, fault)) is not None]
        looked.aside += [path for path in aside if path]
        looked.renamed |= {(*fault.path[:-1], fault.instead): fault.path for fault in faults if fault.instead}
        if not aside:
            return
        try:
            looked.definition = build(cls, _in_sequence(data), context)
        except (ValidationError, Refused) as error:
            faults = faults_of(error)
        else:
            return


def _from_behind(fault: Fault) -> tuple[int, ...]:
    """Later items of a list go first, so that the places of earlier ones stay."""
    return tuple(-part for part in fault.path if isinstance(part, int))


def _within(outer: Path, inner: Path) -> bool:
    return inner[: len(outer)] == outer


def _set_aside(data: Any, fault: Fault) -> Path | None:  # noqa: ANN401 -- plain data
    """Take what is wrong out of the data; return its path, an empty one if it was only renamed, None if it stayed."""
    if not fault.path:
        return None
    parent = _follow(data, fault.path[:-1])
    key = _key(parent, fault.path[-1])
    if key is None:
        return _stand_in(data, parent, fault)
    if fault.instead is not None and fault.instead not in parent:
        parent[fault.instead] = parent.pop(key)
        return ()
    if fault.better is not None and parent[key] != fault.better:
        parent[key] = fault.better
        return ()
    if fault.path[-2:-1] in {("arguments",), ("command",)} and isinstance(parent[key], str):
        parent[key] = ""  # so that what comes behind it keeps its place
    else:
        del parent[key]
    return fault.path


def _stand_in(data: Any, parent: Any, fault: Fault) -> Path | None:  # noqa: ANN401 -- plain data
    name = fault.path[-1]
    if isinstance(parent, dict) and (fault.better or name in _STAND_INS):
        parent[name] = fault.better or _STAND_INS[str(name)]
        return fault.path
    outer = fault.path[:-1]
    return _set_aside(data, Fault(outer, "")) if outer else None


def _follow(data: Any, path: Path) -> Any:  # noqa: ANN401 -- plain data
    for part in path:
        key = _key(data, part)
        if key is None:
            return None
        data = data[key]
    return data


def _key(data: Any, part: str | int) -> Any:  # noqa: ANN401 -- plain data
    """Return the key or index that a part of a path names, or None."""
    if isinstance(data, dict):
        return next((key for key in data if key == part or str(key) == part), None)
    if isinstance(data, list) and isinstance(part, int):
        return part if part < len(data) else None
    if isinstance(data, list):
        return next(
            (index for index, item in enumerate(data) if isinstance(item, dict) and item.get("name") == part), None
        )
    return None
