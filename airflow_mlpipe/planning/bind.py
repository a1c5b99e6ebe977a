"""From a step's definition and what is known of the world to a `StepSpec`, and from that to its components.

Pure: code snapshots, environments and the places of data are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from typing_extensions import assert_never

from airflow_mlpipe.definitions import CommandStep, DataTransferStep, EstimatorStep, MpiStep, PythonScriptStep
from airflow_mlpipe.definitions.expressions import Ref, parse, shell_text
from airflow_mlpipe.definitions.parallel import parallel_of
from airflow_mlpipe.definitions.sweep import sweep_of, swept
from airflow_mlpipe.exceptions import ParameterError
from airflow_mlpipe.planning.distributed import distribution_of
from airflow_mlpipe.runtime.composite import ParallelSpec, SweepSpec
from airflow_mlpipe.runtime.protocol import (
    Argument,
    EnvironmentSpec,
    InputSpec,
    OutputSpec,
    Reference,
    Scalar,
    StepSpec,
    dump_command,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_mlpipe.definitions import Step
    from airflow_mlpipe.runtime.protocol import OutputRef


@dataclass(frozen=True)
class StepFacts:
    """What binding a step needs from outside.

    ``inputs`` places every input: producer, or URI and datastore; contents are filled in later. ``outputs`` places
    the destinations. ``target`` is the compute target with the step's resources, as plain data; empty for a local one.
    ``starter`` is what starts the processes of a distribution that does not say it itself.
    """

    code: str | None = None
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    outputs: Mapping[str, OutputSpec] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    starter: str | None = None


@dataclass(frozen=True)
class Values:
    """The typed values of the run: pipeline parameters, and ``run.*`` moments as ISO 8601 text in UTC."""

    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)


def bind(pipeline: str, step: Step, values: Values, facts: StepFacts) -> StepSpec:
    """Return the spec of a step, with the contents of its inputs still to be filled in.

    :raises ParameterError: if the step uses a ``run.*`` value that this run does not have, or the counts of its
        nodes and processes come to something that cannot be.
    """
    own = {name: evaluate(value, values) for name, value in step.parameters.items()}
    alike = {name: value for name, value in values.parameters.items() if name not in swept(step)}  # one for all trials
    scope = replace(values, parameters={**alike, **own})
    used = _used(step)
    return StepSpec(
        pipeline=pipeline,
        step=step.name,
        kind=step.kind,
        command=_command(step),
        code=facts.code,
        inputs=facts.inputs,
        outputs=facts.outputs,
        parameters={
            **{name: parameter_value(name, scope) for name in sorted(_named(used, "parameters") - {*swept(step)})},
            **own,
        },
        run={name: run_value(name, values) for name in sorted(_named(used, "run"))},
        checkpoint=not isinstance(step, DataTransferStep) and step.checkpoint,
        environment=replace(
            facts.environment,
            variables={name: substitute(text, scope) for name, text in facts.environment.variables.items()},
        ),
        distribution=distribution_of(
            step, lambda value: evaluate(value, scope), facts.target.get("kind", "local"), facts.starter
        ),
        sweep=_sweep(step),
        parallel=_parallel(step),
        target=facts.target,
    )


def _sweep(step: Step) -> SweepSpec | None:
    sweep = sweep_of(step)
    if sweep is None:
        return None
    return SweepSpec(sweep.trials, sweep.objective.metric, sweep.objective.goal, sweep.max_failed)


def _parallel(step: Step) -> ParallelSpec | None:
    given = parallel_of(step)
    return ParallelSpec(given.over, given.mini_batch_size, given.error_threshold) if given else None


def evaluate(value: Scalar, values: Values) -> Scalar:
    """Return a value: an expression alone keeps the type of what it names, one within a text becomes text."""
    if not isinstance(value, str):
        return value
    match parse(value):
        case (Ref() as ref,):
            return _value_of(ref, values)
        case parts:
            return "".join(part if isinstance(part, str) else text_of(_value_of(part, values)) for part in parts)


def substitute(text: str, values: Values) -> str:
    """Return a text with its expressions replaced by the texts of their values."""
    return text_of(evaluate(text, values))


def parameter_value(name: str, values: Values) -> Scalar:
    """Return the value of a parameter.

    :raises ParameterError: if neither the step nor its pipeline or DAG has it.
    """
    if name not in values.parameters:
        has = ", ".join(sorted(values.parameters)) or "none"
        message = f"there is no parameter {name!r} here; there are: {has}. Declare it, or correct the expression"
        raise ParameterError(message)
    return values.parameters[name]


def run_value(name: str, values: Values) -> str:
    """Return a ``run.*`` value.

    :raises ParameterError: if this run does not have it: a run triggered by hand has no data interval.
    """
    if name not in values.run:
        has = ", ".join(f"run.{known}" for known in sorted(values.run)) or "none"
        message = f"this run has no run.{name}; it has {has}. Use run.run_after, which every run has"
        raise ParameterError(message)
    return values.run[name]


def input_from(output: OutputRef, wanted: InputSpec, uri_of: Callable[[str], str]) -> InputSpec:
    """Return an input that takes a published output."""
    external = output.token is not None
    return replace(
        wanted,
        uri=output.path if external else uri_of(output.path),
        content=output.content,
        datastore=output.datastore,
        token=output.token,
    )


def components(spec: StepSpec) -> dict[str, Any]:
    """Return what the fingerprint is made of, as plain JSON data (the rules: `DESIGN.md`, section 5).

    Names of steps and pipelines, targets and modes of delivery are not in it.
    """
    return {
        "kind": spec.kind,
        "command": dump_command(spec),
        "code": spec.code,
        "environment": _environment(spec.environment),
        "inputs": {name: given.content.digest if given.content else None for name, given in spec.inputs.items()},
        "parameters": dict(spec.parameters),
        "run": dict(spec.run),
        "outputs": _outputs(spec),
        **_distribution(spec),
        **_trials(spec),
        **_batches(spec),
    }


def _distribution(spec: StepSpec) -> dict[str, Any]:
    """Return how many processes there are, and how they are started; nothing for the one process of most steps."""
    given = spec.distribution
    if given is None:
        return {}
    counts = {"kind": given.kind, "nodes": given.nodes, "processes": given.processes}
    return {"distribution": {**counts, "options": list(given.options), "outputs": given.outputs}}


def _trials(spec: StepSpec) -> dict[str, Any]:
    """Return what a sweep tries, and how it tells the best; nothing for a step that is none."""
    sweep = spec.sweep
    if sweep is None:
        return {}
    failed = {"max_failed": sweep.max_failed} if sweep.max_failed else {}
    trials = [dict(trial) for trial in sweep.trials]
    return {"sweep": {"trials": trials, "metric": sweep.metric, "goal": sweep.goal, **failed}}


def _batches(spec: StepSpec) -> dict[str, Any]:
    """Return how files are dealt out; nothing for a step that does not."""
    given = spec.parallel
    if given is None:
        return {}
    failed = {"error_threshold": given.error_threshold} if given.error_threshold else {}
    return {"parallel": {"over": given.over, "mini_batch_size": given.mini_batch_size, **failed}}


def _outputs(spec: StepSpec) -> dict[str, str | None]:
    """Return what outputs are made of: where a transfer goes, else names and kinds."""
    if spec.kind == "data_transfer":
        return {name: output.destination for name, output in spec.outputs.items()}
    return {name: output.kind for name, output in spec.outputs.items()}


def _environment(environment: EnvironmentSpec) -> dict[str, Any]:
    declared: dict[str, Any] = {
        "variables": dict(environment.variables),
        "secrets": sorted(environment.secrets),
        "lock": environment.lock if environment.compare != "ignore" else None,
    }
    return {**environment.facts, **{name: value for name, value in declared.items() if value}}


def _command(step: Step) -> tuple[Argument, ...]:
    match step:
        case PythonScriptStep():
            return _script(step.script_name, step.arguments)
        case EstimatorStep():
            return _script(step.entry_script, step.arguments)
        case MpiStep():
            return _command_line(step.command) if step.command else _script(str(step.script_name), step.arguments)
        case CommandStep():
            return _command_line(step.command)
        case DataTransferStep():
            return ()
        case _:
            assert_never(step)


def _script(name: str, arguments: Iterable[str]) -> tuple[Argument, ...]:
    script = f"./{name}" if name.startswith("-") else name  # no option
    return ((Reference("interpreter"),), (script,), *_arguments(arguments))


def _command_line(command: str | Iterable[str]) -> tuple[Argument, ...]:
    if isinstance(command, str):
        return (("sh",), ("-c",), (shell_text(command),))
    return _arguments(command)


_KINDS = {"parameters": "parameter", "inputs": "input", "outputs": "output", "run": "run"}


def _arguments(texts: Iterable[str]) -> tuple[Argument, ...]:
    return tuple(
        tuple(part if isinstance(part, str) else Reference(_KINDS[part.kind], part.name) for part in parse(text))
        for text in texts
    )


def _used(step: Step) -> tuple[Ref, ...]:
    """Return the references whose values reach the command; those in paths count by the data they lead to."""
    texts: list[str] = []
    match step:
        case PythonScriptStep() | EstimatorStep():
            texts += step.arguments
        case MpiStep():
            texts += [*step.arguments, *_texts(step.command or ())]
        case CommandStep():
            texts += _texts(step.command)
        case DataTransferStep():
            pass
        case _:
            assert_never(step)
    return tuple(part for text in texts for part in parse(text) if isinstance(part, Ref))


def _texts(command: str | Iterable[str]) -> list[str]:
    return [command] if isinstance(command, str) else list(command)


def _named(refs: Iterable[Ref], kind: str) -> set[str]:
    return {ref.name for ref in refs if ref.kind == kind}


def _value_of(ref: Ref, values: Values) -> Scalar:
    return run_value(ref.name, values) if ref.kind == "run" else parameter_value(ref.name, values)
