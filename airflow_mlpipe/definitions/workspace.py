"""`Workspace`: the file that names datastores, compute targets, environments and defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, PrivateAttr

from airflow_mlpipe.definitions import ports
from airflow_mlpipe.definitions.base import Definition, build
from airflow_mlpipe.definitions.checks import input_path
from airflow_mlpipe.definitions.compute import (
    ComputeTarget,
    DockerCompute,
    KubernetesCompute,
    LocalCompute,
    compute_target,
    resource_faults,
)
from airflow_mlpipe.definitions.data import Datastore, Destination, Place, StepOutput
from airflow_mlpipe.definitions.destinations import Spot, canonical, destination_of, place_faults
from airflow_mlpipe.definitions.environment import Environment
from airflow_mlpipe.definitions.estimator import EstimatorStep
from airflow_mlpipe.definitions.faults import Fault, did_you_mean, nearest, shown
from airflow_mlpipe.definitions.faults import Path as FaultPath
from airflow_mlpipe.definitions.frameworks import FRAMEWORKS, Framework, of_workspace
from airflow_mlpipe.definitions.imagebuild import ImageRegistry
from airflow_mlpipe.definitions.imagefaults import image_faults
from airflow_mlpipe.definitions.locations import holds, refuse_empty, uri
from airflow_mlpipe.definitions.mlflow import MlflowTracking, tracking
from airflow_mlpipe.definitions.modules import ModuleFolders
from airflow_mlpipe.definitions.placing import distribution_faults
from airflow_mlpipe.definitions.software import equipped, software_faults
from airflow_mlpipe.definitions.stepbase import EnvironmentField
from airflow_mlpipe.definitions.steps import DataTransferStep, Step
from airflow_mlpipe.definitions.values import Count, Duration, StepName, climbs, is_empty
from airflow_mlpipe.exceptions import DataError, DefinitionError, Problem
from airflow_mlpipe.store.attempts import ELSEWHERE, without_password

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_mlpipe.definitions.pipeline import Pipeline

T = TypeVar("T")

FILE_NAME = "mlpipe.yaml"


class Defaults(Definition):
    """What holds where neither step nor pipeline says anything."""

    compute: str | None = None
    """The name of a compute target."""
    environment: EnvironmentField = None
    """The name of an environment, or an environment."""
    retries: Count | None = None
    retry_delay: Duration | None = None
    timeout: Duration | None = None


def _named(cls: type[Definition]) -> Callable[[object], object]:
    def make(value: object, name: str) -> Definition:
        if isinstance(value, cls):
            return value.model_copy(update={"name": name})
        return build(cls, {} if value is None else value).model_copy(update={"name": name})

    return lambda value: ports.each(value, make)


def _registry(value: object) -> object:
    return build(ImageRegistry, value) if isinstance(value, str) else value


def _store(value: object) -> object:
    return build(Datastore, value) if isinstance(value, str | Mapping) else value


def _compute(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return ports.each({"local": LocalCompute(), **value}, compute_target)


def _embedded() -> dict[str, LocalCompute | DockerCompute | KubernetesCompute]:
    return {"local": LocalCompute(name="local")}


def _folders(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Workspace(Definition):
    """Datastores, compute targets, environments and defaults by name; `mlpipe.yaml`."""

    name: StepName | None = None
    store: Annotated[Datastore | None, BeforeValidator(_store, json_schema_input_type=Datastore | str | None)] = None
    """Where outputs are kept; `$AIRFLOW_HOME/mlpipe` where it is not given."""
    datastores: Annotated[dict[StepName, Datastore], BeforeValidator(_named(Datastore))] = Field(default_factory=dict)
    """Storage roots by name."""
    compute: Annotated[dict[StepName, ComputeTarget], BeforeValidator(_compute)] = Field(default_factory=_embedded)
    """Compute targets by name; `local` is always there."""
    environments: Annotated[dict[StepName, Environment], BeforeValidator(_named(Environment))] = Field(
        default_factory=dict
    )
    """Environments by name."""
    frameworks: Annotated[dict[StepName, Framework], BeforeValidator(of_workspace)] = Field(default_factory=dict)
    """What estimators need, by the name of their framework, beside the frameworks that are always there or in their place."""
    registry: Annotated[
        ImageRegistry | None, BeforeValidator(_registry, json_schema_input_type=ImageRegistry | str | None)
    ] = None
    """Where images that `mlpipe build` makes are pushed to; they stay in the engine where it is not given."""
    mlflow: Annotated[
        MlflowTracking | None, BeforeValidator(tracking, json_schema_input_type=MlflowTracking | str | None)
    ] = None
    """The MLflow tracking server that is told of every run."""
    modules: Annotated[tuple[str, ...], BeforeValidator(_folders, json_schema_input_type=str | list[str])] = (
        "modules",
    )
    """Folders with module files, relative to this file."""
    defaults: Defaults = Field(default_factory=Defaults)
    """What holds where neither step nor pipeline says anything."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _file: Path | None = PrivateAttr(None)

    def wrong(self) -> Iterable[Fault]:
        """Return what is wrong beyond the single fields."""
        for name, target in self.compute.items():
            given = target.environment
            if given is not None and given not in self.environments:
                remedy = did_you_mean(given, self.environments)
                yield Fault(("compute", name, "environment"), "is not among environments", remedy, shown(given))

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from: that of the file."""
        return self._folder

    def located(self, folder: Path, file: Path | None = None) -> Self:
        """Return the same workspace, in a folder.

        :param file: where its definitions are, or would be if there were any.
        """
        same = self.model_copy()
        same._folder, same._file = folder, file  # noqa: SLF001 -- its own
        return same

    def computing_on(self, name: str) -> Self:
        """Return the same workspace with another compute target for steps and pipelines that name none.

        :raises DefinitionError: if there is no target of that name.
        """
        _known(self.compute, name, "compute target")
        return self.model_copy(update={"defaults": self.defaults.model_copy(update={"compute": name})})

    @cached_property
    def module_folders(self) -> ModuleFolders:
        """Where modules are found."""
        return ModuleFolders(self.folder / Path(folder).expanduser() for folder in self.modules)

    @property
    def output_store(self) -> Datastore | None:
        """Where outputs are kept, with an absolute URL; None stands for `$AIRFLOW_HOME/mlpipe`."""
        return None if self.store is None else self._absolute(self.store)

    def datastore(self, name: str) -> Datastore:
        """Return a datastore, with an absolute URL.

        :raises DefinitionError: if there is none of that name.
        """
        return self._absolute(_known(self.datastores, name, "datastore"))

    def _absolute(self, datastore: Datastore) -> Datastore:
        return datastore.model_copy(update={"url": uri(datastore.url, self.folder)})

    def compute_of(self, pipeline: Pipeline, step: Step) -> LocalCompute | DockerCompute | KubernetesCompute:
        """Return where a step runs: as it says itself, else its pipeline, else the defaults, else `local`.

        :raises DefinitionError: if there is no target of that name.
        """
        found = _known(self.compute, self._compute_name(pipeline, step), "compute target")
        return found.placed(self.folder) if isinstance(found, DockerCompute) else found

    def _compute_name(self, pipeline: Pipeline, step: Step) -> str:
        return step.compute or pipeline.compute or self.defaults.compute or "local"

    def environment_of(self, pipeline: Pipeline, step: Step) -> Environment:
        """Return a step's software: as it says itself, else its pipeline, its compute target, or the defaults.

        Where none of them does, it is nothing special. Its paths are absolute. An estimator adds what its framework needs.

        :raises DefinitionError: if there is no environment of that name, or no such framework.
        """
        given = self._environment_given(pipeline, step)
        if not isinstance(step, EstimatorStep):
            return given
        return equipped(given, step, self.framework_of(step), self.compute_of(pipeline, step))

    def framework_of(self, step: Step) -> Framework | None:
        """Return the framework of an estimator; None if it has none, or the step is no estimator.

        :raises DefinitionError: if there is no framework of that name.
        """
        name = step.framework if isinstance(step, EstimatorStep) else None
        return None if name is None else _known(self._frameworks, name, "framework")

    @property
    def _frameworks(self) -> Mapping[str, Framework]:
        return {**FRAMEWORKS, **self.frameworks}

    def _environment_given(self, pipeline: Pipeline, step: Step) -> Environment:
        for given, folder in self._environments_given(pipeline, step):
            if isinstance(given, str):
                return _placed(_known(self.environments, given, "environment"), self.folder)
            if given is not None:
                return _placed(given, folder)
        return Environment()

    def _environments_given(self, pipeline: Pipeline, step: Step) -> tuple[tuple[str | Environment | None, Path], ...]:
        """Return what each says, and where its paths start; the first that says something counts."""
        target = self.compute.get(self._compute_name(pipeline, step))
        return (
            (step.environment, pipeline.folder),
            (pipeline.environment, pipeline.folder),
            (target.environment if target else None, self.folder),
            (self.defaults.environment, self.folder),
        )

    def settings_of(self, pipeline: Pipeline, step: Step) -> Defaults:
        """Return retries, their delay and the timeout of a step: its own, else its pipeline's, else the defaults."""
        sources: tuple[Any, ...] = (step, pipeline, self.defaults)
        names = ("retries", "retry_delay", "timeout")
        found = {
            name: next((value for source in sources if (value := getattr(source, name)) is not None), None)
            for name in names
        }
        return self.defaults.model_copy(update=found)

    def destination_of(self, pipeline: Pipeline, step: Step, output: str) -> Destination | None:
        """Return where a copy of an output goes, or None where it goes nowhere."""
        return destination_of(pipeline.name, step, output)

    def locate(self, place: Place, folder: Path, substitute: Callable[[str], str] = str) -> tuple[str, str | None]:
        """Return the URI of a place, and the datastore whose credentials open it.

        :param folder: where a path without a datastore starts: the folder of the definition.
        :param substitute: puts values in the place of expressions.
        :raises DataError: if the path, with its values, leaves the datastore or holds a password, or the place is a
            destination and a value that it needs is empty.
        :raises DefinitionError: if there is no datastore of that name.
        """
        text = place.url or place.path or ""
        path = substitute(text)
        if (plain := without_password(path)) != path:
            message = f"{plain} holds a password or a signature; {ELSEWHERE}"
            raise DataError(message)
        if isinstance(place, Destination):
            refuse_empty(text, substitute)
        if place.datastore is None:
            found = uri(path, folder)
            if isinstance(place, Destination) and holds(found, folder):
                message = f"the destination {path!r} would take the place of the folder of the definition; name a file or folder in it"
                raise DataError(message)
            return found, None
        if climbs(path):
            message = f"the path {path!r} leaves the datastore {place.datastore}; give a path below its root"
            raise DataError(message)
        if isinstance(place, Destination) and is_empty(path):
            message = f"the destination {text!r} would take the place of the whole datastore {place.datastore}; name a file or folder in it"
            raise DataError(message)
        root = self.datastore(place.datastore).url
        return (f"{root.rstrip('/')}/{path.strip('/')}" if path.strip("/") else root), place.datastore

    def check(self, pipeline: Pipeline) -> list[Problem]:
        """Return what of a pipeline does not fit this workspace: names that are not there, targets that do not work."""
        file = str(pipeline.source_file or "")
        return [fault.problem(file) for fault in self.faults(pipeline)]

    def faults(self, pipeline: Pipeline) -> Iterator[Fault]:
        """Yield the same, without a place in a file."""
        yield from self._name_faults(pipeline, ())
        for step in pipeline.steps:
            at = ("steps", step.name)
            yield from self._name_faults(step, at)
            yield from self._compute_faults(pipeline, step, at)
            yield from self._data_faults(step, at)
            yield from self._framework_faults(step, at)
            yield from self._environment_faults(pipeline, step, at)
        folder = pipeline.folder
        yield from place_faults(pipeline, lambda place: self._spot(place, folder), self._code(pipeline))

    def _spot(self, place: Place, folder: Path) -> Spot | None:
        if place.datastore is None:
            return Spot.of_url(uri(canonical(place), folder))
        if place.datastore not in self.datastores:
            return None
        return Spot.of_url(f"{self.datastore(place.datastore).url}/{canonical(place)}")

    def _code(self, pipeline: Pipeline) -> Iterator[tuple[str, Spot | None]]:
        yield "the folder of the definition", Spot.of_url(uri(".", pipeline.folder))
        for step in pipeline.steps:
            if directory := pipeline.source_directory(step):
                yield f"the source directory of {step.name}", Spot.of_url(uri(str(directory), pipeline.folder))

    def _name_faults(self, user: Pipeline | Step, at: FaultPath) -> Iterator[Fault]:
        named: tuple[tuple[str, object, Mapping[str, object]], ...] = (
            ("compute", user.compute, self.compute),
            ("environment", user.environment, self.environments),
        )
        for field, given, known in named:
            if isinstance(given, str) and given not in known:
                yield self._not_named((*at, field), given, known)

    def _compute_faults(self, pipeline: Pipeline, step: Step, at: FaultPath) -> Iterator[Fault]:
        target = self.compute.get(self._compute_name(pipeline, step))
        if target is None:
            if not step.compute and not pipeline.compute:
                yield self._not_named((*at, "compute"), str(self.defaults.compute), self.compute)
            return
        framework = self._frameworks.get(getattr(step, "framework", None) or "")
        yield from distribution_faults(step, target, framework.starter if framework else None, at)
        if isinstance(target, LocalCompute) and step.resources:
            message = "mean nothing to a local target"
            yield Fault((*at, "resources"), message, "Leave them out", ", ".join(step.resources), at_key=True)
        else:
            yield from (fault.below(*at, "resources") for fault in resource_faults(target, step.resources))

    def _data_faults(self, step: Step, at: FaultPath) -> Iterator[Fault]:
        for name, bound in step.inputs.items():
            if not isinstance(bound, StepOutput):
                yield from self._datastore_faults(bound.datastore, input_path(step, name))
        for name, data in step.outputs.items():
            path = at if isinstance(step, DataTransferStep) else (*at, "outputs", name)
            yield from self._datastore_faults(data.datastore, path)
            if data.destination is not None:
                yield from self._datastore_faults(data.destination.datastore, (*path, "destination"))

    def _datastore_faults(self, name: str | None, path: FaultPath) -> Iterator[Fault]:
        if name is not None and name not in self.datastores:
            yield self._not_named((*path, "datastore"), name, self.datastores)

    def _not_named(self, path: FaultPath, given: str, known: Mapping[str, object]) -> Fault:
        remedy = did_you_mean(given, known)
        if self._file is not None and not self._file.is_file():
            remedy = f"There is no {self._file}: write it, and define {shown(given)} there"
        elif self._file is not None and nearest(given, known) is None:
            remedy = f"Define it in {self._file}. {remedy}"
        return Fault(path, "is not in the workspace", remedy, shown(given))

    def _framework_faults(self, step: Step, at: FaultPath) -> Iterator[Fault]:
        name = step.framework if isinstance(step, EstimatorStep) else None
        if name is not None and name not in self._frameworks:
            known = did_you_mean(name, self._frameworks)
            remedy = f"{known}{'' if known.endswith('?') else '.'} Or define it among the frameworks of the workspace"
            yield Fault((*at, "framework"), "is no framework", remedy, shown(name))

    def _environment_faults(self, pipeline: Pipeline, step: Step, at: FaultPath) -> Iterator[Fault]:
        if isinstance(step, DataTransferStep):
            return
        target = self.compute.get(self._compute_name(pipeline, step))
        given = next((given for given, _ in self._environments_given(pipeline, step) if given is not None), None)
        found = self.environments.get(given) if isinstance(given, str) else given
        if target is None or (isinstance(given, str) and found is None):
            return  # which is said already
        environment = found or Environment()
        if isinstance(step, EstimatorStep):
            framework = self._frameworks.get(step.framework or "")
            yield from software_faults(environment, step, framework, target, at)
            environment = equipped(environment, step, framework, target)
        yield from image_faults(environment, target, (*at, "environment"), registry=self.registry is not None)


def _known(named: Mapping[str, T], name: str, what: str) -> T:
    if name not in named:
        message = f"is no {what} of the workspace"
        raise DefinitionError([Problem("", 0, 0, what, message, did_you_mean(name, named), shown(name))])
    return named[name]


def _placed(environment: Environment, folder: Path) -> Environment:
    """Make its paths absolute."""
    path = environment.requirements_path(folder)
    return environment.model_copy(
        update={
            "requirements_file": None if path is None else str(path.absolute()),
            "python": environment.interpreter(folder),
        }
    )
