"""`ModuleStep`: the use of a module in a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.data import PipelineData  # noqa: TC001 -- pydantic reads it
from airflow_mlpipe.definitions.expressions import VALUES, Ref, misplaced, refs
from airflow_mlpipe.definitions.stepbase import Inputs, Outputs, StepBase
from airflow_mlpipe.definitions.values import PortName, Value

if TYPE_CHECKING:
    from airflow_mlpipe.definitions.faults import Fault, Path


class ModuleStep(StepBase):
    """Puts the steps of a module in its place, named `<step>.<inner step>`; a module of one step keeps the name.

    What is said here about compute, environment, retries and so on holds for inner steps that do not say it.
    """

    kind: Literal["module"] = "module"
    module: str
    """The name of the module."""
    version: str | None = None
    """The version; else the one marked as default, else the highest."""
    inputs: Inputs = Field(default_factory=dict)
    """What the module's inputs are bound to."""
    outputs: Outputs = Field(default_factory=dict)
    """More about the module's outputs: destination, asset."""
    parameters: dict[PortName, Value] = Field(default_factory=dict)
    """Values of the module's parameters. Texts may hold `${{ parameters.x }}` and `${{ run.x }}`."""

    _definition: Definition | None = PrivateAttr(None)

    def __init__(self, /, **data: Any) -> None:  # noqa: ANN401 -- pydantic checks the fields
        module = data.get("module")
        if isinstance(module, Definition):
            data = {**data, "module": getattr(module, "name", ""), "version": getattr(module, "version", None)}
        super().__init__(**data)
        self._definition = module if isinstance(module, Definition) else None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow objects in parameters, and name a step without a name after its module."""
        if not isinstance(data, Mapping):
            return data
        return ports.with_texts({"name": data.get("module"), **data})

    @property
    def definition(self) -> Definition | None:
        """The `Module` object given in Python."""
        return self._definition

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        texts = [(name, value) for name, value in self.parameters.items() if isinstance(value, str)]
        return [fault for name, text in texts for fault in misplaced(text, ("parameters", name), VALUES)]

    def references(self) -> tuple[tuple[Path, Ref], ...]:
        """Return the references in the values of its parameters, each with the path where it stands."""
        texts = [(name, value) for name, value in self.parameters.items() if isinstance(value, str)]
        return tuple((("parameters", name), ref) for name, text in texts for ref in refs(text))

    def _outputs(self) -> Mapping[str, PipelineData]:
        return self.outputs
