"""Reads once what binding the steps of a pipeline needs: code, environments, the places of data."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import DataTransferStep, EstimatorStep, LocalCompute, PythonScriptStep, StepOutput
from airflow_mlpipe.definitions.destinations import clash
from airflow_mlpipe.definitions.graph import edges, order
from airflow_mlpipe.definitions.workspace import FILE_NAME as WORKSPACE_FILE
from airflow_mlpipe.exceptions import DataError, ParameterError
from airflow_mlpipe.planning.bind import StepFacts, Values, bind, parameter_value, substitute
from airflow_mlpipe.planning.gate import Gate
from airflow_mlpipe.planning.plan import Task
from airflow_mlpipe.resolving.decide import files_in
from airflow_mlpipe.resolving.environments import check_installed, image_lock, in_container, specification
from airflow_mlpipe.resolving.images import Images
from airflow_mlpipe.resolving.locks import naming, versions
from airflow_mlpipe.resolving.modules import no_script, scan_imports
from airflow_mlpipe.resolving.references import content_of
from airflow_mlpipe.resolving.sources import scan
from airflow_mlpipe.resolving.targets import target_data
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, InputSpec, OutputSpec, StepSpec
from airflow_mlpipe.store import snapshots

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from airflow_mlpipe.definitions import DataReference, Destination, Environment, InputBinding, Pipeline, Step
    from airflow_mlpipe.definitions.compute import AnyCompute
    from airflow_mlpipe.definitions.frameworks import Framework
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.store.snapshots import Snapshot


@dataclass
class Facts:
    """Reads facts for the steps of one pipeline, each source directory and environment once."""

    site: Site
    pipeline: Pipeline
    values: Values
    _snapshots: dict[tuple[Path, str], Snapshot] = field(default_factory=dict)
    _directories: dict[str, tuple[Path, Snapshot]] = field(default_factory=dict)
    _environments: dict[tuple[Environment, AnyCompute | None], EnvironmentSpec] = field(default_factory=dict)
    _image_locks: dict[Environment, str | None] = field(default_factory=dict)
    _locks: dict[str, bytes] = field(default_factory=dict)
    _frameworks: dict[str, Framework | None] = field(default_factory=dict)
    _packed: set[str] = field(default_factory=set)
    _inputs: dict[tuple[str, str | None, str | None], InputSpec] = field(default_factory=dict)

    def task(self, step: Step, *, run_after: tuple[str, ...] = (), regenerate: bool = False) -> Task:
        """Return the task of one step."""
        framework = self._frameworks[step.name] = self.site.workspace.framework_of(step)
        facts = StepFacts(
            code=self.read_code(step),
            environment=self.environment(step),
            inputs={name: self._place_input(binding) for name, binding in step.inputs.items()},
            outputs={name: self._place_output(step, name) for name in step.outputs},
            target=self._target(step),
            starter=framework.starter if framework else None,
        )
        spec = bind(self.pipeline.name, step, self.values, facts)
        return Task(spec, run_after, step.allow_reuse, regenerate, self._gate(step))

    def _gate(self, step: Step) -> Gate | None:
        if step.run_if is None or step.condition is None:
            return None
        return Gate(step.run_if, {name: parameter_value(name, self.values) for name in step.condition.parameters})

    def scanned(self) -> dict[str, dict[str, str]]:
        """Return the files of every snapshot, and the packages of every lock, read so far, by digest."""
        files = {digest: files_in(snapshot) for digest, (_, snapshot) in self._directories.items()}
        return files | {digest: versions(lock.decode().splitlines()) for digest, lock in self._locks.items()}

    def pack(self, spec: StepSpec) -> None:
        """Put what a step needs to be launched into the store, if it is not there yet: its code, its lock.

        :raises DataChangedError: if a file was edited since it was read.
        :raises EnvironmentBuildError: if it runs with a Python that lacks its framework.
        """
        check_installed(self._frameworks.get(spec.step), spec.environment)
        if spec.code in self._directories and spec.code not in self._packed:
            snapshots.pack(self.site.store, *self._directories[spec.code])
            self._packed.add(spec.code)
        lock = spec.environment.lock
        if lock in self._locks and lock not in self._packed:
            snapshots.put_blob(self.site.store, self._locks[lock])
            self._packed.add(lock)

    def _keep_lock(self, lock: bytes) -> str:
        digest = snapshots.blob_digest(lock)
        self._locks[digest] = lock
        return digest

    def forget_code(self) -> None:
        """Read source directories again when asked next."""
        self._snapshots.clear()
        self._directories.clear()

    def read_inputs(self, spec: StepSpec) -> StepSpec:
        """Fill in the content of a step's external inputs, as they are now; each is read once.

        :raises DataError: if one is missing or cannot be read.
        """
        return read_inputs(self.site, spec, self._inputs)

    def read_code(self, step: Step) -> str | None:
        """Return the digest of a step's code; each source directory is read once."""
        directory = self.pipeline.source_directory(step)
        if directory is None:
            return None
        only_imports = isinstance(step, PythonScriptStep | EstimatorStep) and step.code == "imports"
        script = str(step.script) if only_imports else ""
        key = (directory, script)
        if key not in self._snapshots:
            index = self.site.index
            snapshot = scan_imports(directory, script, index) if script else scan(directory, index, self._no_code)
            self._snapshots[key] = snapshot
            self._directories[snapshot.digest] = (directory, snapshot)
        found = self._snapshots[key]
        if step.script is not None and posixpath.normpath(step.script) not in found.files:
            raise no_script(step.script, directory)
        return found.digest

    @cached_property
    def _no_code(self) -> tuple[Path, ...]:
        """Files and folders that are no code of the pipeline's steps, though they may lie in a source directory.

        What the pipeline delivers there would be in the code of the next run; a definition says itself what counts.
        """
        definition = [self.pipeline.folder / WORKSPACE_FILE]
        if self.pipeline.source_file is not None:
            definition.append(self.pipeline.source_file)
        return (*self.site.folders, *definition, *self._delivered())

    def _delivered(self) -> Iterator[Path]:
        for step in self.pipeline.steps:
            for name in step.outputs:
                with suppress(DataError, ParameterError):  # the step itself says so
                    uri = self._place_output(step, name).destination
                    if uri is not None and uri.startswith("file://"):
                        yield Path(uri.removeprefix("file://"))

    def environment(self, step: Step) -> EnvironmentSpec:
        """Return the software of a step; the image of a container is asked for once."""
        if isinstance(step, DataTransferStep):
            return EnvironmentSpec()
        environment = self.site.workspace.environment_of(self.pipeline, step)
        target = self.site.workspace.compute_of(self.pipeline, step)
        key = (environment, None if isinstance(target, LocalCompute) else target)
        if key not in self._environments:
            self._environments[key] = self._specification(environment, target)
        return self._environments[key]

    def _specification(self, environment: Environment, target: AnyCompute) -> EnvironmentSpec:
        if isinstance(target, LocalCompute):
            with naming(self.pipeline.source_file):
                return specification(environment, self.pipeline.folder, self._keep_lock)
        lock = self._image_lock(environment)
        return in_container(environment, lock, self._images.begin(environment, target, lock).result)

    def begin_images(self) -> None:
        """Begin to ask for the images of all steps side by side, so that other facts are read meanwhile.

        :raises EnvironmentBuildError: if requirements that go into an image have no lock.
        """
        for step in self.pipeline.steps:
            if isinstance(step, DataTransferStep):
                continue
            target = self.site.workspace.compute_of(self.pipeline, step)
            if not isinstance(target, LocalCompute):
                environment = self.site.workspace.environment_of(self.pipeline, step)
                self._images.begin(environment, target, self._image_lock(environment))

    def _image_lock(self, environment: Environment) -> str | None:
        if environment not in self._image_locks:
            with naming(self.pipeline.source_file, self.site.workspace.defaults.compute):
                text = image_lock(environment, self.pipeline.folder)
            self._image_locks[environment] = None if text is None else self._keep_lock(text.encode())
        return self._image_locks[environment]

    @cached_property
    def _images(self) -> Images:
        return Images(self.site.login_of, self.site.workspace.registry)

    def _target(self, step: Step) -> Mapping[str, Any]:
        return {} if isinstance(step, DataTransferStep) else target_data(self.site.workspace, self.pipeline, step)

    def _place_input(self, binding: InputBinding) -> InputSpec:
        if isinstance(binding, StepOutput):
            return InputSpec(mode=binding.mode, producer=(binding.step, binding.output))
        uri, datastore = self._locate(binding)
        compare = binding.compare if "compare" in binding.model_fields_set else None
        return InputSpec(uri, mode=binding.mode, datastore=datastore, compare=compare)

    def _place_output(self, step: Step, name: str) -> OutputSpec:
        output = step.outputs[name]
        place = self.site.workspace.destination_of(self.pipeline, step, name)
        uri, datastore = self._locate(place) if place else (None, None)
        return OutputSpec(output.kind, uri, datastore, output.asset)

    def _locate(self, place: DataReference | Destination) -> tuple[str, str | None]:
        return self.site.workspace.locate(place, self.pipeline.folder, lambda text: substitute(text, self.values))


def tasks_of(
    facts: Facts,
    regenerate: Collection[str] = (),
    waits: Mapping[str, tuple[str, ...]] | None = None,
) -> list[Task]:
    """Return a task for each step of the pipeline, in dependency order.

    :param regenerate: the steps that must not be reused.
    :param waits: further things a step must wait for, by step; what is no step of the pipeline is never decided.
    :raises DataError: if outputs would be delivered to one place, or to where a step reads.
    """
    pipeline = facts.pipeline
    facts.begin_images()
    for step in pipeline.steps:
        facts.read_code(step)
    upstream = edges(pipeline)
    tasks = [
        facts.task(
            pipeline.step(name),
            run_after=(*upstream[name], *(waits or {}).get(name, ())),
            regenerate=name in regenerate,
        )
        for name in order(pipeline)
    ]
    if message := _clash([task.spec for task in tasks]):
        raise DataError(message)
    return tasks


def _clash(specs: Collection[StepSpec]) -> str | None:
    written = [(s.step, name, out.destination) for s in specs for name, out in s.outputs.items() if out.destination]
    if not written:
        return None
    return clash(written, [(s.step, name, given.uri) for s in specs for name, given in s.inputs.items() if given.uri])


def read_inputs(
    site: Site, spec: StepSpec, known: dict[tuple[str, str | None, str | None], InputSpec] | None = None
) -> StepSpec:
    """Fill in the content of a step's external inputs, as they are now.

    :param known: inputs read before, by URI, datastore and way to compare; what is read here is added.
    :raises DataError: if one is missing or cannot be read.
    """
    memo = {} if known is None else known
    filled = {}
    for name, wanted in spec.inputs.items():
        if wanted.producer is not None or wanted.uri is None:
            continue
        key = (wanted.uri, wanted.datastore, wanted.compare)
        if key not in memo:
            memo[key] = _read_input(site, spec.step, name, wanted)
        filled[name] = replace(wanted, content=memo[key].content, token=memo[key].token)
    return spec.with_inputs(filled) if filled else spec


def _read_input(site: Site, step: str, name: str, wanted: InputSpec) -> InputSpec:
    uri = str(wanted.uri)
    try:
        fs, path = site.open_uri(uri, wanted.datastore)
        content, token = content_of(uri, fs, path, wanted.compare, site.index)
    except DataError as error:
        message = f"{step}, input {name}: {error}"
        raise type(error)(message) from error
    return InputSpec(content=content, token=token)
