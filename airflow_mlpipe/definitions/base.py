"""`Definition`: what everything a user writes has in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from airflow_mlpipe.definitions.faults import AZURE_ML, Fault, Refused, faults_of, nearest, shown
from airflow_mlpipe.exceptions import DefinitionError

if TYPE_CHECKING:
    from typing_extensions import Self

D = TypeVar("D", bound="Definition")


class Definition(BaseModel):
    """Base of all definitions: immutable, and unknown fields are refused.

    Two definitions are equal when they are of one class and their fields are; where they were read does not matter.

    :raises DefinitionError: if a field is wrong; it names every field that is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    named_by: ClassVar[str | None] = None
    """The field that the key of a mapping gives, so that a definition inside a mapping need not repeat it."""

    def __init__(self, /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise DefinitionError([_in_python(type(self), fault) for fault in faults_of(error)]) from None

    # pydantic then knows that this constructor adds nothing to validation, and goes past it for nested definitions.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:  # noqa: ANN401 -- a validator
        """Say everything that is wrong at once, unknown fields by name."""
        if isinstance(data, cls):
            return data
        data = cls.normalised(data)
        faults = cls._unknown_faults(data) if isinstance(data, Mapping) else []
        known = data if not faults else {key: item for key, item in data.items() if key in cls.__pydantic_fields__}
        try:
            made = handler(known)
        except ValidationError as error:
            if not faults:
                raise
            meant = {(fault.instead,) for fault in faults}
            raise Refused([*faults, *(fault for fault in faults_of(error) if fault.path not in meant)]) from None
        faults += made.wrong()
        if faults:
            raise Refused(faults)
        return made

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields; subclasses say what that may be."""
        return ()

    @classmethod
    def _unknown_faults(cls, data: Mapping[str, Any]) -> list[Fault]:
        return [cls._unknown(key, data) for key in data if key not in cls.__pydantic_fields__]

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Return what a user wrote in its long form; subclasses that allow shorter ones say which."""
        return data

    @classmethod
    def _unknown(cls, key: object, data: Mapping[str, Any]) -> Fault:
        known = [name for name in cls.__pydantic_fields__ if name not in data]
        elsewhere = AZURE_ML.get(str(key))
        near = elsewhere if elsewhere in known else nearest(key, known)
        remedy = f"Did you mean {near}?" if near else "Known: " + ", ".join(cls.__pydantic_fields__)
        path = (key if isinstance(key, str) else str(key),)
        return Fault(path, "there is no such field", remedy, shown(key), at_key=True, instead=near)

    def __copy__(self) -> Self:
        """Copy the fields; what was derived from them is derived anew."""
        copied = super().__copy__()
        object.__setattr__(copied, "__dict__", self._fields())
        return copied

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), getattr(self, "name", None)))

    def _fields(self) -> dict[str, Any]:
        values = self.__dict__
        return {name: values[name] for name in type(self).__pydantic_fields__}


def build(cls: type[D], data: object, context: Mapping[str, Any] | None = None) -> D:
    """Return a definition of plain data, inside a validator.

    :raises pydantic.ValidationError: if it cannot be; `faults_of` says why.
    """
    made: D = cls.__pydantic_validator__.validate_python(data, context=context)
    return made


def _in_python(cls: type[Definition], fault: Fault) -> Any:  # noqa: ANN401
    return fault.below(cls.__name__).problem()
