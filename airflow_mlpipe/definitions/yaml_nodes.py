"""YAML as plain data, and where in the text each piece of it stands.

The text is composed once, by libyaml; positions are looked up only when there is something to complain about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from airflow_mlpipe.definitions.faults import Fault, Path, shown
from airflow_mlpipe.exceptions import DefinitionError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML without libyaml reads the same, more slowly
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

MAX_NODES = 200_000
MAX_DEPTH = 100

TWICE = "is there twice"

_PREFIX = "tag:yaml.org,2002:"
_MERGE = _PREFIX + "merge"


class WrittenFloat(float):
    """A number that remembers how it was written, for where a text is wanted."""

    text: str


class WrittenInt(int):
    """A whole number that remembers how it was written, for where a text is wanted."""

    text: str


def compose(text: str, file: str) -> yaml.Node | None:
    """Return the node tree of a text, or None where it is empty.

    :raises DefinitionError: if it is not YAML, or more than one document.
    """
    loader = Loader(text)
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise DefinitionError([_problem(error, file, text)]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DefinitionError([Problem(file, 1, 1, "", f"cannot be read as YAML: {_first_line(error)}")]) from None
    finally:
        loader.dispose()


def _problem(error: yaml.MarkedYAMLError, file: str, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    here = text.splitlines()[line - 1 : line] or [""]
    remedy = _remedy(f"{error.context} {error.problem}", here[0][column - 1 : column])
    return Problem(file, line, column, "", f"is not valid YAML: {error.problem or error.context}", remedy)


def _remedy(message: str, char: str) -> str:
    if char == "\t":
        return "YAML indents with spaces: replace the tabs"
    if "mapping values are not allowed" in message:
        return "A text with ': ' in it must be in quotes"
    if "single document" in message:
        return "Write one definition a file"
    if "undefined alias" in message:
        return "Write &name where the value first stands"
    return "Look at this line and the one before: indentation, quotes, brackets"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class Reader:
    """Makes plain data of nodes, and remembers what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[tuple[yaml.Node, Fault]] = []
        self._scalars = yaml.SafeLoader("")
        self._count = 0
        self._open: list[yaml.Node] = []

    def data(self, node: yaml.Node | None, path: Path = ()) -> Any:  # noqa: ANN401 -- plain data
        """Return the plain data of a node."""
        if node is None:
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._count += 1
        if self._count > MAX_NODES or len(self._open) > MAX_DEPTH or node in self._open:
            self._wrong(node, path, "contains itself, or is too large", "Write it out without this alias")
            return None
        self._open.append(node)
        data = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        self._open.pop()
        return data

    def _wrong(self, node: yaml.Node, path: Path, message: str, remedy: str, value: str = "") -> None:
        self.faults.append((node, Fault(path, message, remedy, value)))

    def _sequence(self, node: yaml.Node, path: Path) -> list[Any]:
        if node.tag != _PREFIX + "seq":
            self._wrong(node, path, f"has the tag {node.tag}, which means nothing here", "Leave the tag out")
        return [self.data(item, (*path, index)) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        if node.tag != _PREFIX + "map":
            self._wrong(node, path, f"has the tag {node.tag}, which means nothing here", "Leave the tag out")
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merge(value_node, path), **merged}
                continue
            key = self._key(key_node, path)
            if key in own:
                message = TWICE
                self._wrong(key_node, (*path, key), message, "Keep one of the two", shown(key))
            own[key] = self.data(value_node, (*path, key))
        return {**merged, **own} if merged else own

    def _key(self, node: yaml.Node, path: Path) -> str:
        """Return a key as it is written: all keys here are names, also ``on`` and ``1``."""
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        self._wrong(node, path, "has a key that is no text", "Write the key as one word")
        return ""

    def _merge(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            data = self.data(source, path)
            if isinstance(data, dict):
                merged = {**data, **merged}
            else:
                self._wrong(source, path, "merges something that is no mapping", "Write <<: *name of a mapping")
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:  # noqa: ANN401 -- a scalar
        if node.tag == _STRING:
            return node.value
        make = _SCALARS.get(node.tag)
        if make is None:
            self._wrong(node, path, f"has the tag {node.tag}, which means nothing here", "Leave the tag out")
            return node.value
        try:
            return make(self._scalars, node)
        except (ValueError, yaml.YAMLError) as error:
            self._wrong(node, path, f"cannot be read: {_first_line(error)}", "Write a text in quotes", node.value)
            return node.value


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    number: int = loader.construct_yaml_int(node)
    if str(number) == node.value:
        return number
    written = WrittenInt(number)
    written.text = node.value
    return written


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    number: float = loader.construct_yaml_float(node)
    if repr(number) == node.value:
        return number
    written = WrittenFloat(number)
    written.text = node.value
    return written


def _moment(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> date:
    return loader.construct_yaml_timestamp(node)


_STRING = _PREFIX + "str"
_SCALARS: dict[str, Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]] = {
    _PREFIX + "null": lambda _, __: None,
    _PREFIX + "bool": lambda loader, node: loader.construct_yaml_bool(node),
    _PREFIX + "int": _int,
    _PREFIX + "float": _float,
    _PREFIX + "timestamp": _moment,
    _PREFIX + "value": lambda _, node: node.value,
    _PREFIX + "merge": lambda _, node: node.value,
}


def place(root: yaml.Node | None, path: Path, *, at_key: bool = False) -> tuple[int, int]:
    """Return line and column, from 1, of what a path names; where it is not there, of what it would be in."""
    node, mark = root, None if root is None else root.start_mark
    for index, part in enumerate(path):
        found = _child(node, part)
        if found is None:
            break
        key, node = found
        last = index == len(path) - 1
        mark = key.start_mark if key is not None and (at_key or not last or _is_block(node)) else node.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return _in_mapping(node, part)
    if isinstance(node, yaml.SequenceNode):
        if isinstance(part, int):
            return (None, node.value[part]) if part < len(node.value) else None
        return _named_item(node, part)
    return None


def _in_mapping(node: yaml.MappingNode, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    for key, value in node.value:
        if key.value == part:
            return key, value
    for key, value in node.value:
        if key.tag == _MERGE:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(source, yaml.MappingNode) and (found := _in_mapping(source, part)):
                    return found
    if isinstance(part, str) and "." in part:  # a step out of a module: the step that uses it
        return _in_mapping(node, part.rpartition(".")[0])
    return None


def _named_item(node: yaml.SequenceNode, name: str) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Find the step of a name in a list, or in lists within it."""
    for item in node.value:
        if isinstance(item, yaml.SequenceNode) and (found := _named_item(item, name)):
            return found
        if isinstance(item, yaml.MappingNode) and (key := _in_mapping(item, "name")) and key[1].value == name:
            return None, item
    return _named_item(node, name.rpartition(".")[0]) if "." in name else None
