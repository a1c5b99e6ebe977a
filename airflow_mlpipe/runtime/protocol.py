"""What crosses a process boundary: the message into a step, the message out of it, the names a script sees.

Written once, versioned, standard library only. A message of a newer version is refused by name.

A `StepSpec` is *complete* when every input has a digest; until its producers have run it is a draft, whose
inputs name the step and output they wait for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_mlpipe.exceptions import RecordFormatError
from airflow_mlpipe.runtime.composite import ParallelSpec, SweepSpec, load_parallel, load_sweep

if TYPE_CHECKING:
    from airflow_mlpipe.store.digests import Content

VERSION = 1
SPEC = "StepSpec"
RESULT = "StepResult"

_ATOMS = frozenset({str, int, float, bool, type(None)})


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- a module has attributes of any kind
    """Offer `Content` too, imported when it is used: the supervisor starts without what digests need."""
    if name != "Content":
        raise AttributeError(name)
    from airflow_mlpipe.store.digests import Content  # noqa: PLC0415 -- see above

    return Content


Scalar: TypeAlias = "str | int | float | bool | None"
"""The typed value of a parameter."""


@dataclass(frozen=True)
class Reference:
    """A part of an argument that only the launcher can fill in.

    ``kind`` is ``input`` or ``output`` (becomes the path, or the URI for mode ``direct``), ``parameter``, ``run``
    (becomes the text of the value) or ``interpreter`` (becomes the Python of the step's environment; no name).
    """

    kind: str
    name: str = ""


Argument: TypeAlias = "tuple[str | Reference, ...]"
"""One element of the command line: literal texts and references, joined without a separator."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a step: where it lies and what it must be.

    ``producer`` is ``(step, output)`` for the output of another step of the run. ``datastore`` names the datastore
    whose credentials open ``uri``; None stands for the output store itself, or for no credentials.
    ``token`` is the version of external data that was bound, in the words of its filesystem; ``compare`` (content,
    version or path) how external data is compared, None for what suits the filesystem. ``files`` names those files of a
    folder that the step gets, by relative path; it is empty where it gets all.
    """

    uri: str | None = None
    content: Content | None = None
    mode: str = "mount"
    producer: tuple[str, str] | None = None
    datastore: str | None = None
    token: str | None = None
    compare: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputSpec:
    """One output of a step. ``kind`` is ``file``, ``folder`` or None for either.

    ``destination`` is the URI that also receives a copy, opened with the credentials of ``datastore``.
    """

    kind: str | None = None
    destination: str | None = None
    datastore: str | None = None
    asset: str | None = None


@dataclass(frozen=True)
class EnvironmentSpec:
    """The software of a step.

    ``lock`` is the digest of the requirements lock (its text lies among the snapshots), ``interpreter`` the Python to
    use instead of the worker's own. ``secrets`` maps a variable to ``connection:<id>.<field>`` or ``variable:<key>``;
    values never appear here. ``facts`` are what the fingerprint compares (operating system, architecture, Python
    version); they are empty where ``compare`` (strict, declared or ignore) leaves them out. ``observe`` says that the distributions the script
    imports are recorded and must be the same at reuse.

    In a container ``image`` is what is run, pinned: ``repository@sha256:...``, or ``sha256:...``, the id of an image
    that only an engine has. The interpreter is then a command of the image, and the facts are the image's digest.
    Where that could not be found out, ``unknown`` says why, and there is no ``image``: the step cannot be launched,
    nor compared where its digest counts.
    """

    interpreter: str | None = None
    lock: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    observe: bool = False
    compare: str = "strict"
    image: str | None = None
    unknown: str | None = None

    @property
    def comparable(self) -> bool:
        """Whether all that the fingerprint compares is known."""
        return self.unknown is None or self.compare != "strict"


@dataclass(frozen=True)
class DistributionSpec:
    """How the command of a step becomes many processes: ``nodes`` times ``processes`` of it.

    ``kind`` is ``torchrun``, ``mpi`` or ``tensorflow``. ``options`` go to the starter (``mpirun``, ``torchrun``) as they
    are. ``outputs`` says whose outputs count: ``first`` for those of rank 0, ``each`` for a folder a rank, by its number.
    All of it counts for reuse.
    """

    kind: str
    nodes: int = 1
    processes: int = 1
    options: tuple[str, ...] = ()
    outputs: str = "first"


@dataclass(frozen=True)
class StepSpec:
    """Everything needed to run one step: the message into its step directory (``spec.json``).

    ``command`` is the argument vector. ``code`` is the digest of the snapshot that becomes ``code/``, the working
    directory, or None. ``parameters`` and ``run`` hold the values this step uses. ``source`` and ``target`` of a
    data transfer are the input and the output named ``data``. ``target`` is the compute target with the resources of
    the step, as plain data, ``{"kind": "docker", ...}``; it is empty for a local one. Nothing in it counts for reuse,
    nor does ``checkpoint``, which says that the folder ``checkpoint/`` is kept for the next try. ``tries`` is a digest of
    whose tries these are, where what other runs of the same fingerprint saved does not count (rule 11).
    ``late`` are variables of this very launch, such as the MLflow run to log to; they are given when it is launched, are in
    no plan or record, and never count for reuse.
    ``command`` is what one process runs; where there is a ``distribution``, the launcher starts as many of it as that says.
    One with a ``sweep`` or ``parallel`` is never launched: it is made of its trials or mini-batches, each a spec of its own.
    """

    pipeline: str
    step: str
    kind: str
    command: tuple[Argument, ...] = ()
    code: str | None = None
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    outputs: Mapping[str, OutputSpec] = field(default_factory=dict)
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    checkpoint: bool = False
    tries: str = ""
    distribution: DistributionSpec | None = None
    sweep: SweepSpec | None = None
    parallel: ParallelSpec | None = None
    late: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, Any] = field(default_factory=dict)
    version: int = VERSION

    @property
    def is_composite(self) -> bool:
        """Whether it is made of other steps, and never launched itself."""
        return self.sweep is not None or self.parallel is not None

    def saved_under(self, fingerprint: str) -> str:
        """Return the key under which ``checkpoint/`` is kept."""
        return self.tries or fingerprint

    def waits_for(self) -> tuple[str, ...]:
        """Return the steps whose outputs are not known yet, in the order of the inputs, each once."""
        missing = (spec.producer[0] for spec in self.inputs.values() if spec.content is None and spec.producer)
        return tuple(dict.fromkeys(missing))

    def with_inputs(self, known: Mapping[str, InputSpec]) -> StepSpec:
        """Return the same spec with some inputs filled in."""
        return replace(self, inputs={**self.inputs, **known})


@dataclass(frozen=True)
class OutputRef:
    """A published output: what it is, and where below the store's root.

    The output of a data transfer lies at its destination instead: then ``path`` is a URI, ``datastore`` says whose
    credentials open it, and ``token`` is its version as the transfer left it.
    """

    path: str
    content: Content
    datastore: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class StepResult:
    """How a command ended: the message out of its step directory (``result.json``).

    ``error`` is None exactly when the step succeeded. ``exit_code`` is negative for a signal, as in `subprocess`.
    ``tail`` holds the last lines of its output. ``observed`` maps each distribution the script imported to its
    version. ``metrics`` is the last value of each name in ``metrics.jsonl``. Times are in seconds.
    """

    exit_code: int | None
    error: str | None = None
    tail: tuple[str, ...] = ()
    seconds: float = 0.0
    observed: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, OutputRef] = field(default_factory=dict)
    version: int = VERSION


def dump(message: StepSpec | StepResult | InputSpec | OutputRef | Content) -> dict[str, Any]:
    """Return a message as plain JSON data; what equals its default is left out."""
    data: dict[str, Any] = _plain(message)
    return data


def dump_command(spec: StepSpec) -> list[Any]:
    """Return the command of a spec as `dump` does."""
    command: list[Any] = _plain(spec.command)
    return command


def load_spec(data: Mapping[str, Any]) -> StepSpec:
    """Return the `StepSpec` that `dump` wrote.

    :raises RecordFormatError: if a newer version wrote it, or it is damaged.
    """
    _check_version(data, SPEC)
    try:
        return StepSpec(
            **{
                **data,
                "command": tuple(tuple(_part(part) for part in argument) for argument in data.get("command", ())),
                "inputs": {name: load_input(value) for name, value in data.get("inputs", {}).items()},
                "outputs": {name: OutputSpec(**value) for name, value in data.get("outputs", {}).items()},
                "environment": EnvironmentSpec(**data.get("environment", {})),
                "distribution": _distribution(data.get("distribution")),
                "sweep": load_sweep(data.get("sweep")),
                "parallel": load_parallel(data.get("parallel")),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise _damaged(SPEC, error) from error


def load_result(data: Mapping[str, Any]) -> StepResult:
    """Return the `StepResult` that `dump` wrote.

    :raises RecordFormatError: if a newer version wrote it, or it is damaged.
    """
    _check_version(data, RESULT)
    try:
        outputs = {name: load_output(value) for name, value in data.get("outputs", {}).items()}
        return StepResult(**{"exit_code": None, **data, "tail": tuple(data.get("tail", ())), "outputs": outputs})
    except (TypeError, KeyError, AttributeError) as error:
        raise _damaged(RESULT, error) from error


def load_input(data: Mapping[str, Any]) -> InputSpec:
    """Return the `InputSpec` that `dump` wrote."""
    content = data.get("content")
    producer = data.get("producer")
    return InputSpec(
        **{
            **data,
            "content": _content(content) if content else None,
            "producer": (producer[0], producer[1]) if producer else None,
            "files": tuple(data.get("files", ())),
        }
    )


def load_output(data: Mapping[str, Any]) -> OutputRef:
    """Return the `OutputRef` that `dump` wrote."""
    return OutputRef(**{**data, "content": _content(data["content"])})


def _distribution(data: Mapping[str, Any] | None) -> DistributionSpec | None:
    return DistributionSpec(**{**data, "options": tuple(data.get("options", ()))}) if data else None


def _content(data: Mapping[str, Any]) -> Content:
    from airflow_mlpipe.store.digests import Content  # noqa: PLC0415 -- see `__getattr__`

    return Content(**data)


def to_json(message: StepSpec | StepResult) -> bytes:
    """Return a message as the bytes of ``spec.json`` or ``result.json``."""
    return json.dumps(dump(message), ensure_ascii=False, allow_nan=False, sort_keys=True).encode()


def text_of(value: Scalar) -> str:
    """Return the text a script sees for a value: ``true`` and ``false``, numbers as Python writes them."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def step_variables(spec: StepSpec, paths: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Return the variables that tell a script its inputs, outputs and parameters.

    :param paths: for each ``("input" | "output", name)`` the path or URI the script shall use.
    """
    variables: dict[str, str] = {}
    for (kind, name), path in paths.items():
        variables[f"MLPIPE_{kind.upper()}_{name.upper()}"] = path
        variables[f"AZUREML_DATAREFERENCE_{name}"] = path
    for name, value in spec.parameters.items():
        variables[f"MLPIPE_PARAMETER_{name.upper()}"] = text_of(value)
        variables[f"AML_PARAMETER_{name}"] = text_of(value)
    for name, moment in spec.run.items():
        variables[f"MLPIPE_RUN_{name.upper()}"] = moment
    return variables


def _plain(value: Any) -> Any:  # noqa: ANN401 -- any of the messages' fields
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is Reference:
        return {value.kind: value.name}
    if names := _fields_of(kind):
        plain = {name: _plain(getattr(value, name)) for name in names}
        return {name: item for name, item in plain.items() if item or (item is not None and item not in ({}, []))}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


_FIELDS: dict[type, tuple[str, ...]] = {}


def _fields_of(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields, none for other types; plans have thousands of messages."""
    if kind not in _FIELDS:
        _FIELDS[kind] = tuple(item.name for item in fields(kind)) if is_dataclass(kind) else ()
    return _FIELDS[kind]


def _part(part: str | Mapping[str, str]) -> str | Reference:
    if isinstance(part, str):
        return part
    ((kind, name),) = part.items()
    return Reference(kind, name)


def _check_version(data: Mapping[str, Any], what: str) -> None:
    version = data.get("version")
    if not isinstance(version, int):
        raise _damaged(what, f"version {version!r}")
    if version > VERSION:
        message = (
            f"this {what} has version {version}, written by a newer airflow-mlpipe; "
            f"this one reads up to version {VERSION}: upgrade it"
        )
        raise RecordFormatError(message)


def _damaged(what: str, reason: object) -> RecordFormatError:
    return RecordFormatError(f"a {what} cannot be read: {reason}")
