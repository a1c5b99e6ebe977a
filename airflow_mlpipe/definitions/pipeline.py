"""`Pipeline`: steps that belong together; becomes one DAG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, StrictBool, StrictInt, ValidationInfo

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.assemble import Surroundings, assemble
from airflow_mlpipe.definitions.base import Definition
from airflow_mlpipe.definitions.checks import pipeline_faults
from airflow_mlpipe.definitions.dump import plain
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, refuse
from airflow_mlpipe.definitions.modules import ModuleFolders
from airflow_mlpipe.definitions.parameter import PipelineParameter
from airflow_mlpipe.definitions.schedule import ScheduleField
from airflow_mlpipe.definitions.sequence import StepSequence
from airflow_mlpipe.definitions.stepbase import EnvironmentField, StepBase
from airflow_mlpipe.definitions.steps import Step
from airflow_mlpipe.definitions.values import Count, DottedName, Duration, Moment, PortName, StepName
from airflow_mlpipe.fingerprint import fingerprint


def _steps(value: object, info: ValidationInfo) -> tuple[Step, ...]:
    around = (info.context or {}).get("around")
    return assemble(value, around or Surroundings(ModuleFolders([Path.cwd() / "modules"]).find))


Parameters = Annotated[dict[PortName, PipelineParameter], BeforeValidator(ports.parameters)]


class Pipeline(Definition):
    """A pipeline: its steps, the values that may differ from run to run, and when it runs.

    :raises DefinitionError: if anything is wrong; it names everything that is.
    """

    name: StepName
    """The name of the pipeline and of its DAG."""
    description: str = ""
    experiment: str | None = None
    """The name its runs are grouped under."""
    owner: str | None = None
    """Shown in Airflow."""
    tags: tuple[str, ...] = ()
    """Shown in Airflow."""
    schedule: ScheduleField = None
    """A cron expression, a preset such as `@weekly`, an interval `{every: 2 hours}`, or `{assets: a & b}`."""
    start_date: Moment | None = None
    """No run is scheduled before it. UTC where no zone is given."""
    end_date: Moment | None = None
    """No run is scheduled after it. UTC where no zone is given."""
    catchup: StrictBool = False
    """Whether runs missed since the start date are made up for."""
    max_active_runs: Annotated[StrictInt, Field(ge=1)] | None = None
    """How many runs may be active together."""
    compute: str | None = None
    """The compute target of steps that name none."""
    environment: EnvironmentField = None
    """The environment of steps that name none."""
    retries: Count | None = None
    """How often a step is tried again, where it does not say so itself."""
    retry_delay: Duration | None = None
    """The time between two tries."""
    timeout: Duration | None = None
    """The time after which a try is ended."""
    on_success: DottedName | None = None
    """A function to call after a run that succeeded, `module.function`."""
    on_failure: DottedName | None = None
    """A function to call after a run that failed, `module.function`."""
    parameters: Parameters = Field(default_factory=dict)
    """The values that may differ from run to run, by name."""
    steps: Annotated[tuple[Step, ...], BeforeValidator(_steps)]
    """The steps: a mapping has no order but by data, a list runs in order, a list inside it side by side."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _source_file: Path | None = PrivateAttr(None)

    @classmethod
    def normalised(cls, data: Any) -> Any:  # noqa: ANN401 -- whatever a user wrote
        """Take in the parameter objects that stand in the steps' arguments."""
        if not isinstance(data, Mapping):
            return data
        found = [given for step in _objects(data.get("steps")) for given in step.given_parameters]
        declared = ports.parameters(data.get("parameters", {})) if found else {}
        if not found or not isinstance(declared, dict):
            return data
        for given in found:
            if declared.setdefault(given.name, given) != given:
                message = "is there twice, with different definitions"
                raise refuse(message, "Use one PipelineParameter object", given.name, ("parameters", str(given.name)))
        return {**data, "parameters": declared}

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        return pipeline_faults(self)

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from: that of the YAML file, else where Python was started."""
        return self._folder

    @folder.setter
    def folder(self, folder: Path) -> None:
        self._folder = Path(folder)

    @property
    def source_file(self) -> Path | None:
        """The YAML file it was read from."""
        return self._source_file

    @source_file.setter
    def source_file(self, file: Path | None) -> None:
        self._source_file = file

    def __setattr__(self, name: str, value: object) -> None:
        if name in {"folder", "source_file"}:  # where it was read is no part of what is frozen
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @cached_property
    def digest(self) -> str:
        """The digest of everything defined here; where it was read, and in which form, does not matter."""
        return fingerprint({"pipeline": plain(self)})

    @cached_property
    def _by_name(self) -> dict[str, Step]:
        return {step.name: step for step in self.steps}

    def step(self, name: str) -> Step:
        """Return the step with a name.

        :raises KeyError: if there is none; the message names the nearest.
        """
        try:
            return self._by_name[name]
        except KeyError:
            message = f"{self.name} has no step {name!r}. {did_you_mean(name, self._by_name)}"
            raise KeyError(message) from None

    def source_directory(self, step: Step) -> Path | None:
        """Return the folder with a step's code, or None where it has none."""
        directory = getattr(step, "source_directory", None)
        return None if directory is None else self.folder / Path(directory).expanduser()


def _objects(steps: object) -> Iterator[StepBase]:
    match steps:
        case StepBase():
            yield steps
        case StepSequence() | list() | tuple():
            for item in steps:
                yield from _objects(item)
        case Mapping():
            yield from (item for item in steps.values() if isinstance(item, StepBase))
