"""`Distribution`: how the command of a step becomes many processes, on one machine or on many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.expressions import VALUES, Ref, misplaced, parse
from airflow_mlpipe.definitions.faults import Fault, Path, refuse
from airflow_mlpipe.definitions.parameter import TakesParameters
from airflow_mlpipe.definitions.values import Argument

Starter: TypeAlias = Literal["torchrun", "mpi", "tensorflow"]
OutputsOf: TypeAlias = Literal["first", "each"]

COUNTS = ("nodes", "processes_per_node")
_COUNT_REMEDY = "Write it without quotes and without a fraction, or as ${{ parameters.<name> }}"


def _count(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return int(value)
    if isinstance(value, str) and "${{" in value and _is_parameter(value):
        return value
    message = "must be a whole number of at least 1"
    raise refuse(message, _COUNT_REMEDY, value)


def _is_parameter(text: str) -> bool:
    match parse(text.strip()):
        case (Ref(kind="parameters"),):
            return True
        case _:
            return False


_Written: TypeAlias = Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"\$\{\{.*\}\}")]
ProcessCount = Annotated[int | str, BeforeValidator(_count, json_schema_input_type=_Written)]
"""How many there are: a number, or the expression that names the parameter that says it."""


class Distribution(TakesParameters):
    """How many processes run the script, and what starts them."""

    kind: Starter | None = None
    """What starts the processes: `torchrun`, `mpi` or `tensorflow`; what the framework uses where it is not given."""
    nodes: ProcessCount = 1
    """The number of machines; more than 1 needs a Kubernetes target. A number, or `${{ parameters.x }}`."""
    processes_per_node: ProcessCount = 1
    """The number of processes on each machine. A number, or `${{ parameters.x }}`."""
    options: tuple[Argument, ...] = ()
    """Arguments for what starts the processes, as they are. May hold `${{ parameters.x }}` and `${{ run.x }}`."""
    outputs_of: OutputsOf = "first"
    """Whose outputs count: those of the `first` process, or of `each`, in a folder named by its rank."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Allow parameter objects as counts."""
        return ports.with_counts(data, COUNTS) if isinstance(data, Mapping) else data

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [fault for path, text in self.option_texts() for fault in misplaced(text, path, VALUES)]

    def option_texts(self) -> Iterator[tuple[Path, str]]:
        """Yield the options, each with its path."""
        yield from ((("options", index), text) for index, text in enumerate(self.options))

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Yield everything that may hold expressions, each with its path."""
        yield from (((name,), value) for name in COUNTS if isinstance(value := getattr(self, name), str))
        yield from self.option_texts()
