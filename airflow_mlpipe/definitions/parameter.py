"""`PipelineParameter`: a value given at trigger time, typed and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import PrivateAttr
from typing_extensions import assert_never

from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, shown
from airflow_mlpipe.definitions.values import PortName, Scalar, Value
from airflow_mlpipe.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow_mlpipe.definitions.pipeline import Pipeline

ParameterType: TypeAlias = Literal["string", "integer", "number", "boolean", "enum"]

_KIND_OF: dict[type, ParameterType] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_WORDS = {"string": "a text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_TRUTH = {"true": True, "false": False}


class PipelineParameter(Definition):
    """A value of a pipeline that may differ from run to run. Without a default it must be given."""

    named_by: ClassVar[str | None] = "name"

    name: PortName | None = None
    """In YAML the key gives it."""
    type: ParameterType = "string"
    """Where it is not given, the default and the choices tell it."""
    default: Value | None = None
    """The value where none is given; without it, one must be."""
    minimum: float | None = None
    """The least number allowed."""
    maximum: float | None = None
    """The greatest number allowed."""
    choices: tuple[Value, ...] = ()
    """The values allowed."""
    description: str = ""
    """Shown in the trigger form."""

    def __init__(self, name: str | None = None, /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        super().__init__(**{**({"name": name} if name else {}), **data})

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow the default alone, Azure ML's name for it, and no type where default or choices tell it."""
        if isinstance(data, str | int | float | bool):
            data = {"default": data}
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        if "default_value" in data and "default" not in data:
            data["default"] = data.pop("default_value")
        if data.get("type") is None:
            data["type"] = "enum" if data.get("choices") else _type_of(data.get("default"))
        data["default"] = _as_type(data["type"], data.get("default"))
        if isinstance(data.get("choices"), list | tuple):
            data["choices"] = tuple(_as_type(data["type"], choice) for choice in data["choices"])
        return data

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is None

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        faults = [*self._bound_faults(), *self._choice_faults()]
        if not faults and self.default is not None and (wrong := self._refusal(self.default)):
            faults = [Fault(("default",), f"must be {wrong}", "", shown(self.default))]
        return faults

    def _bound_faults(self) -> list[Fault]:
        given = [name for name in ("minimum", "maximum") if getattr(self, name) is not None]
        if self.type not in {"integer", "number"}:
            return [
                Fault((name,), f"has no meaning for type {self.type}", "Leave it out", at_key=True) for name in given
            ]
        faults = [
            Fault((name,), "must be a finite number", "", shown(getattr(self, name)))
            for name in given
            if not math.isfinite(getattr(self, name))
        ]
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            faults.append(
                Fault(("minimum",), f"is greater than the maximum, {self.maximum:g}", "", f"{self.minimum:g}")
            )
        return faults

    def _choice_faults(self) -> list[Fault]:
        if self.type == "enum" and not self.choices:
            return [Fault(("choices",), "is missing", "List the values allowed: choices: [a, b]")]
        faults = [
            Fault(("choices", index), "must be a finite number", "", shown(choice))
            for index, choice in enumerate(self.choices)
            if isinstance(choice, float) and not math.isfinite(choice)
        ]
        if faults or self.type == "enum":
            return faults
        return [
            Fault(("choices", index), f"must be {wrong}", "", shown(choice))
            for index, choice in enumerate(self.choices)
            if (wrong := self._type_refusal(choice))
        ]

    def value(self, given: object) -> Scalar:
        """Return a given value with the parameter's type.

        A number takes 1 as 1.0, and a whole number 1.0 as 1, since the trigger form sends either.

        :raises ParameterError: if it has another type, is out of bounds, or is none of the choices.
        """
        wrong = self._refusal(given)
        if wrong:
            name = f"parameter {self.name}" if self.name else "the parameter"
            message = f"{name} must be {wrong}, given: {shown(given)}"
            raise ParameterError(message)
        return self._typed(given)

    def from_text(self, text: str) -> Scalar:
        """Return the value that a text on the command line stands for.

        :raises ParameterError: if it stands for none.
        """
        match self.type:
            case "string":
                return self.value(text)
            case "boolean":
                return self.value(_TRUTH.get(text.strip().lower(), text))
            case "integer" | "number":
                return self.value(_number(text))
            case "enum":
                as_written = next((choice for choice in self.choices if _text_of(choice) == text), None)
                return self.value(_number(text) if as_written is None else as_written)
            case _:
                assert_never(self.type)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the value, as an Airflow Param takes it."""
        schema: dict[str, Any] = {"type": self.type}
        if self.choices:
            schema |= {"type": _json_types(self.choices), "enum": list(self.choices)}
        given = {
            "title": self.name,
            "description": self.description or None,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "default": self.default,
        }
        schema |= {key: value for key, value in given.items() if value is not None}
        if self.type == "integer":
            schema |= {key: _whole(schema[key]) for key in ("minimum", "maximum") if key in schema}
        return schema

    def _typed(self, given: Any) -> Scalar:  # noqa: ANN401 -- checked before
        chosen = next((choice for choice in self.choices if _same(choice, given)), given)
        match self.type:
            case "integer":
                return int(chosen)
            case "number":
                return float(chosen)
            case "string" | "boolean" | "enum":
                return chosen
            case _:
                assert_never(self.type)

    def _refusal(self, given: object) -> str:
        """Return what is allowed instead, or an empty text where the value is."""
        if self.choices and not any(_same(choice, given) for choice in self.choices):
            return "one of " + ", ".join(_text_of(choice) for choice in self.choices)
        return self._type_refusal(given) or self._bound_refusal(given)

    def _type_refusal(self, given: object) -> str:
        match self.type:
            case "string":
                fits = isinstance(given, str)
            case "boolean":
                fits = isinstance(given, bool)
            case "integer":
                fits = (isinstance(given, float) and given.is_integer()) or _is_int(given)
            case "number":
                fits = isinstance(given, float | int) and not isinstance(given, bool) and _is_finite(given)
            case "enum":
                fits = True
            case _:
                assert_never(self.type)
        return "" if fits else _WORDS[self.type]

    def _bound_refusal(self, given: Any) -> str:  # noqa: ANN401 -- checked before
        if self.minimum is not None and given < self.minimum:
            return f"at least {self.minimum:g}"
        if self.maximum is not None and given > self.maximum:
            return f"at most {self.maximum:g}"
        return ""


class TakesParameters(Definition):
    """A definition in which parameter objects may stand, where it is made in Python."""

    _parameters: tuple[PipelineParameter, ...] = PrivateAttr(())

    def __init__(self, /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        super().__init__(**data)
        self._parameters = self.parameters_in(data)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def parameters_in(cls, data: Mapping[str, Any]) -> tuple[PipelineParameter, ...]:
        """Return the parameter objects among what a user gave."""
        return tuple(item for item in data.values() if isinstance(item, PipelineParameter))

    @property
    def given_parameters(self) -> tuple[PipelineParameter, ...]:
        """The parameter objects given in Python; the pipeline takes them in."""
        return self._parameters


def parameter_values(pipeline: Pipeline, given: Mapping[str, object]) -> dict[str, Scalar]:
    """Return the value of every parameter of a pipeline: what is given, else its default.

    :raises ParameterError: naming every value that is refused, unknown or missing.
    """
    faults, values = [], {}
    for name in given:
        if name not in pipeline.parameters:
            remedy = did_you_mean(name, pipeline.parameters)
            faults.append(f"{pipeline.name} has no parameter {name}. {remedy}")
    for name, parameter in pipeline.parameters.items():
        if name not in given and parameter.default is None:
            faults.append(f"parameter {name} has no default: give a value")
            continue
        try:
            values[name] = parameter.value(given.get(name, parameter.default))
        except ParameterError as error:
            faults.append(str(error))
    if faults:
        raise ParameterError("; ".join(faults))
    return values


def _type_of(default: object) -> ParameterType:
    return next((kind for cls, kind in _KIND_OF.items() if isinstance(default, cls)), "string")


def _as_type(kind: object, value: object) -> object:
    """Write a number in the parameter's type, so that 1 and 1.0 are one definition."""
    if kind == "number" and _is_int(value) and _is_finite(value):
        return float(value)  # type: ignore[arg-type] # an int
    return int(value) if kind == "integer" and isinstance(value, float) and value.is_integer() else value


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:  # noqa: PERF203 -- everything wrong comes at once
            continue
    return text


def _is_int(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def _is_finite(given: Any) -> bool:  # noqa: ANN401 -- a number
    try:
        return math.isfinite(float(given))
    except OverflowError:
        return False


def _same(choice: Scalar, given: object) -> bool:
    return isinstance(choice, bool) == isinstance(given, bool) and choice == given


def _text_of(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _whole(bound: float) -> float:
    return int(bound) if bound == int(bound) else bound


def _json_types(choices: tuple[Scalar, ...]) -> str | list[str]:
    kinds = list(dict.fromkeys(_type_of(choice) for choice in choices))
    return kinds[0] if len(kinds) == 1 else list(kinds)
