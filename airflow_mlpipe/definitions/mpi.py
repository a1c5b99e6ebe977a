"""`MpiStep`: a script or a command line, started many times by `mpirun`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.distribution import Distribution, OutputsOf, ProcessCount
from airflow_mlpipe.definitions.faults import Fault, Path
from airflow_mlpipe.definitions.stepbase import (
    Directory,
    PortedStep,
    command_line,
    command_texts,
    empty_command,
    named_after_script,
)
from airflow_mlpipe.definitions.values import Argument, InsidePath


def _command(value: object) -> object:
    return None if value is None else command_line(value)


COUNTS = ("node_count", "process_count_per_node")


class MpiStep(PortedStep):
    """Runs a Python script or a command line as many processes that speak MPI with each other."""

    script_field: ClassVar[str | None] = "script_name"

    kind: Literal["mpi"] = "mpi"
    script_name: InsidePath | None = None
    """The Python script that each process runs, relative to `source_directory`; or give `command`."""
    arguments: tuple[Argument, ...] = ()
    """The arguments of the script. May hold expressions."""
    command: Annotated[str | tuple[Argument, ...] | None, BeforeValidator(_command)] = None
    """What each process runs, in place of a script; as in a step of kind `command`."""
    source_directory: Directory | None = None
    """The folder that becomes the working directory; for a script the definition's where it is not given."""
    node_count: ProcessCount = 1
    """The number of machines; more than 1 needs a Kubernetes target. A number, or `${{ parameters.x }}`."""
    process_count_per_node: ProcessCount = 1
    """The number of processes on each machine. A number, or `${{ parameters.x }}`."""
    options: tuple[Argument, ...] = ()
    """Arguments for `mpirun`, as they are. May hold `${{ parameters.x }}` and `${{ run.x }}`."""
    hostfile: InsidePath | None = None
    """A file with hosts and slots for `mpirun`, relative to `source_directory`; on Kubernetes the operator makes it."""
    outputs_of: OutputsOf = "first"
    """Whose outputs count: those of the `first` process, or of `each`, in a folder named by its rank."""

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Name a step without a name after its script, whose folder is `.` where it is not given."""
        data = named_after_script(super().normalised(data), "script_name")
        if not isinstance(data, Mapping):
            return data
        if data.get("script_name") is not None and data.get("source_directory") is None:
            data = {**data, "source_directory": "."}
        return ports.with_counts(data, COUNTS)

    @property
    def distribution(self) -> Distribution:
        """The same, as an estimator would say it."""
        hosts = () if self.hostfile is None else ("--hostfile", self.hostfile)
        return Distribution(
            kind="mpi",
            nodes=self.node_count,
            processes_per_node=self.process_count_per_node,
            options=(*hosts, *self.options),
            outputs_of=self.outputs_of,
        )

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return [*super().wrong(), *self._command_faults()]

    def _command_faults(self) -> Iterator[Fault]:
        if self.hostfile is not None and self.source_directory is None:
            remedy = "Give source_directory: <folder>"
            yield Fault(("hostfile",), "lies in no source_directory", remedy, self.hostfile)
        if self.command is None:
            if self.script_name is None:
                yield Fault(("command",), "is missing, and so is script_name", "Give one of them")
            return
        if self.script_name is not None:
            yield Fault(("command",), "is given beside script_name", "Keep one of them", at_key=True)
        elif self.arguments:
            message = "are those of a script, and there is a command"
            yield Fault(("arguments",), message, "Write them in command", at_key=True)
        yield from empty_command(self.command)

    def _command_texts(self) -> Iterator[tuple[Path, str]]:
        yield from ((("arguments", index), text) for index, text in enumerate(self.arguments))
        if self.command is not None:
            yield from command_texts(self.command)
        yield from (((name,), value) for name in COUNTS if isinstance(value := getattr(self, name), str))
        yield from ((("options", index), text) for index, text in enumerate(self.options))
