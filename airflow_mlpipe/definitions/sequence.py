"""`StepSequence`: steps in order, though no data says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_mlpipe.definitions.faults import Path, did_you_mean, refuse
from airflow_mlpipe.definitions.stepbase import StepBase


class StepSequence:
    """Each element runs after everything in the element before; a list inside is a group without order."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = tuple(steps)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)

    def __repr__(self) -> str:
        return f"StepSequence({list(self.steps)!r})"


@dataclass(frozen=True)
class Listed:
    """One step as a user listed it: a `StepBase` or plain data, where it stood, and what it runs after."""

    name: str
    given: Any
    path: Path
    after: tuple[str, ...] = ()
    at: Path = ()
    """Where it stood, also where another step has its name."""

    @property
    def by_key(self) -> bool:
        """Whether the key of a mapping names it."""
        return self.at == self.path


@dataclass
class _Group:
    """Steps read so far, with those that begin and end them."""

    steps: list[Listed] = field(default_factory=list)
    ends: tuple[str, ...] = ()


def listed(steps: Any) -> list[Listed]:  # noqa: ANN401 -- whatever a user wrote
    """Return the steps of a mapping, a list or a `StepSequence`, in the order written.

    :raises Refused: (a ValueError) if it is none of these, or a step has no name.
    """
    match steps:
        case Mapping():
            return [
                Listed(str(name), _named(given, str(name)), (str(name),), at=(str(name),))
                for name, given in steps.items()
            ]
        case StepSequence() | list() | tuple() | StepBase():
            return _group(steps, (), ()).steps
        case _:
            message = "must be a mapping of names to steps, or a list"
            raise refuse(message, "Write one `name:` a step, with its fields indented below", steps)


def _group(item: Any, path: Path, after: tuple[str, ...]) -> _Group:  # noqa: ANN401 -- whatever a user wrote
    if isinstance(item, StepSequence):
        return _sequence(item, path, after)
    if not isinstance(item, list | tuple):
        step = _listed(item, path, after)
        return _Group([step], (step.name,))
    groups = [_group(inner, (*path, index), after) for index, inner in enumerate(item)]
    return _Group(
        [step for group in groups for step in group.steps], tuple(end for group in groups for end in group.ends)
    )


def _sequence(sequence: StepSequence, path: Path, after: tuple[str, ...]) -> _Group:
    whole = _Group(ends=after)
    for index, item in enumerate(sequence):
        group = _group(item, (*path, index), whole.ends)
        whole.steps += group.steps
        whole.ends = group.ends or whole.ends
    return whole


def _listed(item: Any, path: Path, after: tuple[str, ...]) -> Listed:  # noqa: ANN401 -- whatever a user wrote
    if isinstance(item, StepBase):
        return Listed(item.name, item, (item.name,), after, path)
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        return Listed(item["name"], item, (item["name"],), after, path)
    message = "is a step without a name"
    raise refuse(
        message, "In a list each step needs name: <name>", item if not isinstance(item, Mapping) else None, path
    )


def _named(given: Any, name: str) -> Any:  # noqa: ANN401 -- whatever a user wrote
    """Give a step the name of its key."""
    said = (
        given.name if isinstance(given, StepBase) else given.get("name", name) if isinstance(given, Mapping) else name
    )
    if said != name:
        message = "differs from the key, which names the step"
        raise refuse(message, did_you_mean(said, [name]), said, (name, "name"))
    return {**given, "name": name} if isinstance(given, Mapping) else given
