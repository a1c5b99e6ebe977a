"""`Parallel`: a step that runs once for each few files of a folder, so that new files cost only themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt

from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.expressions import Ref, parse
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, refuse, shown
from airflow_mlpipe.definitions.sweep import sweep_of
from airflow_mlpipe.definitions.values import Count, PortName

if TYPE_CHECKING:
    from airflow_mlpipe.definitions.stepbase import StepBase

TABLE = "batches"
"""The XCom with the table of the mini-batches; no output may have this name."""


def _over(value: object) -> object:
    """Return the name of an input, given so or as its expression."""
    if not isinstance(value, str) or "${{" not in value:
        return value
    match parse(value):
        case (Ref(kind="inputs") as ref,):
            return ref.name
    message = "must name one input of the step"
    raise refuse(message, "Write ${{ inputs.<name> }}", value)


class Parallel(Definition):
    """How the files of an input are dealt out."""

    over: Annotated[PortName, BeforeValidator(_over)]
    """The input, a folder: `${{ inputs.images }}`."""
    mini_batch_size: Annotated[StrictInt, Field(ge=1)]
    """How many files one mini-batch has at most."""
    error_threshold: Count = 0
    """How many mini-batches may fail."""
    max_concurrent: Annotated[StrictInt, Field(ge=1)] | None = None
    """How many mini-batches may run side by side."""


def _parallel(value: object) -> Any:  # noqa: ANN401 -- a validator
    return value if value is None or isinstance(value, Parallel) else build(Parallel, value)


ParallelField = Annotated[Parallel | None, BeforeValidator(_parallel, json_schema_input_type=Parallel | None)]


def parallel_of(step: StepBase) -> Parallel | None:
    """Return how a step is dealt out; None if it is not, or is of a kind that cannot be."""
    return getattr(step, "parallel", None)


def helpers_of(step: StepBase) -> tuple[str, ...]:
    """Return the tasks that a step has beside the one that is named after it: what plans its parts, what runs them."""
    if sweep_of(step):
        return (f"{step.name}.plan", f"{step.name}.trial")
    return (f"{step.name}.plan", f"{step.name}.batch") if parallel_of(step) else ()


def parallel_faults(step: Any) -> Iterator[Fault]:  # noqa: ANN401 -- a step with inputs and outputs
    """Yield what of a step does not go together with its mini-batches."""
    parallel: Parallel | None = step.parallel
    if parallel is None:
        return
    if step.sweep is not None:
        yield Fault(("parallel",), "does not go together with sweep", "Leave one of them out", at_key=True)
    bound = step.inputs.get(parallel.over)
    if bound is None:
        remedy = did_you_mean(parallel.over, step.inputs, "inputs.") if isinstance(step.inputs, Mapping) else ""
        yield Fault(("parallel", "over"), "names an input that the step does not declare", remedy, shown(parallel.over))
    elif bound.mode == "direct":
        message = "is the mode of an input whose files are dealt out"
        yield Fault(("inputs", parallel.over, "mode"), message, "Write mount or download", "direct")
    if not step.outputs:
        remedy = "Declare the folder that each mini-batch leaves: outputs: [results]"
        yield Fault(("outputs",), "is missing: the step leaves what its mini-batches leave", remedy)
    for name, output in step.outputs.items():
        if name == TABLE:
            message = "is the name under which the step leaves the table of its mini-batches"
            yield Fault(("outputs", name), message, "Choose another name", name, at_key=True)
        elif output.kind == "file":
            message = "is a file, of which each mini-batch would leave one"
            yield Fault(
                ("outputs", name, "kind"), message, "Write folder; it holds the files of all mini-batches", "file"
            )
