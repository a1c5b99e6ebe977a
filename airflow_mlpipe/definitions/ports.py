"""The inputs, outputs and arguments of a step, from everything a user may write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.data import DataReference, InputBinding, NamedData, PipelineData, StepOutput, binding
from airflow_mlpipe.definitions.expressions import Ref
from airflow_mlpipe.definitions.faults import Fault, Refused, faults_of, refuse, shown
from airflow_mlpipe.definitions.parameter import PipelineParameter

_NAMED = DataReference | PipelineData | NamedData


def inputs(value: object) -> object:
    """Return inputs by name; a list holds objects that know their names."""
    return each(by_name(value), binding)


def outputs(value: object) -> object:
    """Return outputs by name; a list holds names, or objects that know their names."""
    return each(by_name(value), output)


def output(value: object, name: str) -> PipelineData:
    """Return one output: nothing says more about it, or a mapping or object does.

    :raises Refused: (a ValueError) if the object has another name.
    """
    if value is None:
        return build(PipelineData, {"name": name})
    if isinstance(value, Mapping):
        value = build(PipelineData, {"name": name, **value})
    if not isinstance(value, PipelineData):
        message = "is nothing that an output can be"
        raise refuse(message, "Write {} where nothing more is to be said", value)
    if value.name != name:
        message = "differs from the key, which names the output"
        raise refuse(message, f"Name it {name}", value.name, ("name",))
    return value


def each(value: object, made: Callable[[Any, str], object]) -> object:
    """Return a mapping with each value made into what it stands for; all that is wrong comes at once."""
    if not isinstance(value, Mapping):
        return value
    result, faults = {}, []
    for name, item in value.items():
        try:
            result[name] = made(item, name)
        except (ValidationError, Refused) as error:  # noqa: PERF203 -- everything wrong comes at once
            named = isinstance(item, Mapping) and "name" in item
            found = faults_of(error)
            faults += [(fault if named else fault.named_by_key()).below(str(name)) for fault in found]
    if faults:
        raise Refused(faults)
    return result


def by_name(value: object) -> object:
    """Return a list of names, or of objects that know theirs, as a mapping.

    :raises Refused: (a ValueError) if one has no name, or two have the same.
    """
    if not isinstance(value, list | tuple):
        return value
    named: dict[str, object] = {}
    for index, item in enumerate(value):
        name = item if isinstance(item, str) else item.name if isinstance(item, _NAMED) else None
        if name is None:
            message = "has no name"
            raise refuse(message, "Write a mapping of names, or give it a name", item, (index,))
        if name in named:
            message = "is there twice"
            raise refuse(message, "Give each its own name", name, (index,))
        named[name] = None if isinstance(item, str) else item
    return named


Given: TypeAlias = "Mapping[str, Any]"


def with_texts(step: Given) -> dict[str, Any]:
    """Return what a user gave for a step, with the objects in its arguments, command and parameters as texts."""
    step = dict(step)
    known = Ports(*(_named(step.get(field)) for field in ("inputs", "outputs")))
    for field in ("arguments", "command"):
        if isinstance(step.get(field), list | tuple):
            step[field] = tuple(known.text(item, (field, index)) for index, item in enumerate(step[field]))
    if isinstance(step.get("parameters"), Mapping):
        step["parameters"] = {name: known.text(item, ("parameters", name)) for name, item in step["parameters"].items()}
    return step


def _named(value: object) -> object:
    """Return what is named; what is wrong with the names is said where the field itself is checked."""
    try:
        return by_name(value)
    except Refused:
        return None


class Ports:
    """Finds the name under which an object is an input or output of a step."""

    def __init__(self, given_inputs: object, given_outputs: object) -> None:
        self.ports = [
            (kind, name, given)
            for kind, ports in (("inputs", given_inputs), ("outputs", given_outputs))
            if isinstance(ports, Mapping)
            for name, given in ports.items()
        ]

    def text(self, item: object, path: tuple[str | int, ...]) -> object:
        """Return an object as the expression that names it; everything else stays as it is."""
        match item:
            case PipelineParameter(name=str() as name):
                return str(Ref("parameters", name))
            case DataReference() | PipelineData() | NamedData() | StepOutput():
                return str(self._ref(item, path))
            case os.PathLike():
                return os.fspath(item)
            case _:
                return item

    def _ref(self, item: InputBinding | PipelineData | NamedData, path: tuple[str | int, ...]) -> Ref:
        same = [port for port in self.ports if port[2] is item] or [port for port in self.ports if _same(port[2], item)]
        if not same:
            message = "is neither among the inputs nor among the outputs"
            raise Refused([Fault(path, message, "Add it to inputs or outputs", shown(getattr(item, "name", item)))])
        return Ref(same[0][0], same[0][1])  # type: ignore[arg-type] # inputs or outputs


def _same(given: object, item: object) -> bool:
    return given == item or (isinstance(given, NamedData) and given.data is item)


def with_counts(given: Given, fields: Iterable[str]) -> dict[str, Any]:
    """Return what a user gave, with the parameter objects in some fields as the expressions that name them."""
    known = Ports(None, None)
    return {**given, **{field: known.text(given[field], (field,)) for field in fields if field in given}}


def parameters_in(step: Given) -> tuple[PipelineParameter, ...]:
    """Return the parameter objects among what a user gave for a step."""
    given: list[object] = [value for value in step.values() if isinstance(value, PipelineParameter)]
    for field in ("arguments", "command"):
        given += step[field] if isinstance(step.get(field), list | tuple) else []
    for field in ("parameters", "distribution"):
        inner = step.get(field)
        given += inner.values() if isinstance(inner, Mapping) else getattr(inner, "given_parameters", ())
    bound = step.get("inputs", ())
    for place in (*(bound.values() if isinstance(bound, Mapping) else bound), step.get("source")):
        given += getattr(place, "given_parameters", ())
    return tuple(item for item in given if isinstance(item, PipelineParameter))


def parameters(value: object) -> object:
    """Return parameters by name; a list holds objects that know their names."""
    if isinstance(value, list | tuple) and all(isinstance(item, PipelineParameter) and item.name for item in value):
        value = {item.name: item for item in value}
    return each(value, parameter)


def parameter(value: object, name: str) -> PipelineParameter:
    """Return one parameter, named by its key.

    :raises Refused: (a ValueError) if it says another name.
    """
    if isinstance(value, PipelineParameter):
        return value if value.name == name else value.model_copy(update={"name": name})
    if isinstance(value, Mapping) and value.get("name", name) != name:
        message = "differs from the key, which names the parameter"
        raise refuse(message, "Leave name out", value["name"], ("name",))
    return build(PipelineParameter, value).model_copy(update={"name": name})
