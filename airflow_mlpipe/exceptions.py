"""The errors users may meet, as one tree.

Every message says what is wrong, what was given, and what to do::

    MlpipeError
     +- DefinitionError            a pipeline, module or workspace file (or object) that cannot be used
     +- ParameterError             a value given at trigger time that its parameter refuses
     +- SourceError                a source directory that cannot be packed
     +- DataError                  data that is missing, unreadable or not allowed
     |   +- DataChangedError       data that is no longer what was bound
     |   +- InputLostError         an output in the store that is damaged or gone when a step needs it
     +- EnvironmentBuildError      requirements that cannot be locked or installed, an image that cannot be built
     |   +- ImageUnknownError      an image whose digest cannot be found out
     +- StoreError                 the output store
     |   +- StoreUnreachableError  it does not answer, or refuses to read or write
     |   +- StoreNotExclusiveError it cannot create a file exclusively, so it cannot be shared
     |   +- ClaimLostError         somebody else has taken over what a step was computing
     |   +- RecordFormatError      an entry that a newer version wrote, or that is damaged
     +- AirflowError               a local Airflow that does not start, has ended, or refuses a request
     +- TrackingError              an MLflow server that does not answer, or refuses
     +- PlanError                  a run whose plan is missing or does not fit the step
     +- StepError                  a step that did not succeed
         +- ConditionError         its run_if cannot be worked out
         +- CommandFailedError     its command ended with an exit code or a signal
         |   +- StepStoppedError   not by itself: its task was killed, its pod deleted, its engine went away
         +- OutputMissingError     its command succeeded and left a declared output unwritten
         +- InputModifiedError     its command wrote into its inputs
         +- MetricsError           its command succeeded and logged what is no metric
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class MlpipeError(Exception):
    """Base of every error this package raises on purpose."""

    own: ClassVar[bool] = False
    """Whether a step that fails with it fails by itself, and not for what it runs on, or what comes before it."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of a definition: where it is, what was given, what to write instead.

    ``line`` and ``column`` count from 1; they are 0 for definitions written in Python.
    """

    file: str
    line: int
    column: int
    where: str
    message: str
    remedy: str = ""
    value: str = field(default="", compare=False)

    def __str__(self) -> str:
        """One line a person can act on, in the form compilers use."""
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        subject = f"{self.where}: " if self.where else ""
        given = f" (given: {self.value})" if self.value else ""
        remedy = f". {self.remedy}" if self.remedy else ""
        return f"{place}{subject}{self.message}{given}{remedy}"


class DefinitionError(MlpipeError):
    """A definition with one or more problems; all of them come at once, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(head + ":\n" + "\n".join(f"  {problem}" for problem in self.problems))

    def __reduce__(self) -> tuple[type[DefinitionError], tuple[tuple[Problem, ...]]]:
        """Pickle by problems, since the message is derived from them."""
        return type(self), (self.problems,)


class ParameterError(MlpipeError):
    """A value given at trigger time that its parameter refuses."""


class SourceError(MlpipeError):
    """A source directory that cannot be packed."""


class DataError(MlpipeError):
    """Data that is missing, unreadable or not allowed."""


class DataChangedError(DataError):
    """Data that is no longer what was bound when the step was planned."""


class InputLostError(DataError):
    """An output of an earlier step that is damaged or gone when another step needs it."""

    def __init__(self, message: str, path: str, reason: str) -> None:
        """``path`` is where it lay below the root of the store, ``reason`` what is wrong with it."""
        self.path = path
        self.reason = reason
        super().__init__(message)


class EnvironmentBuildError(MlpipeError):
    """Requirements that cannot be locked or installed, or an image that cannot be built."""


class ImageUnknownError(EnvironmentBuildError):
    """An image whose digest cannot be found out: nobody who was asked has it, or the registry does not answer."""

    def __init__(self, message: str, *, absent: bool = False) -> None:
        """``absent``: the registry has answered, and has no such image, or none that it would show."""
        self.absent = absent
        super().__init__(message)


class StoreError(MlpipeError):
    """The output store cannot do what was asked."""


class StoreUnreachableError(StoreError):
    """The store does not answer, or refuses to read or write."""


class StoreNotExclusiveError(StoreError):
    """The store cannot create a file exclusively, so runs cannot share it."""


class ClaimLostError(StoreError):
    """Somebody else has taken over what this step was computing, so its outcome is not recorded."""

    def __init__(self, message: str, *, by_later_try: bool = False) -> None:
        """``by_later_try``: it was a later try of the same task instance, which speaks for the step now."""
        self.by_later_try = by_later_try
        super().__init__(message)


class RecordFormatError(StoreError):
    """An entry of the store that a newer version wrote, or that is damaged."""


class AirflowError(MlpipeError):
    """A local Airflow that does not start, has ended, or refuses a request."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """``status`` is the HTTP status of a refused request."""
        self.status = status
        super().__init__(message)


class TrackingError(MlpipeError):
    """An MLflow server that does not answer, or refuses what it is told; it never fails a step."""


class PlanError(MlpipeError):
    """A run whose plan is missing or does not fit the step."""


class StepError(MlpipeError):
    """A step that did not succeed."""


class ConditionError(StepError):
    """A step whose ``run_if`` cannot be worked out: it names a metric that was not logged, say."""


class CommandFailedError(StepError):
    """The command of a step ended with an exit code other than 0, or by a signal."""

    own = True


class StepStoppedError(CommandFailedError):
    """Something else than itself ended a step: its task was killed, its pod deleted, its engine went away."""

    own = False


class OutputMissingError(StepError):
    """The command succeeded and left a declared output unwritten."""

    own = True


class InputModifiedError(StepError):
    """The command wrote into its inputs."""

    own = True


class MetricsError(StepError):
    """The command succeeded and logged what is no metric."""

    own = True
