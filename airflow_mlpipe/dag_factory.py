"""From pipeline definitions to DAGs: `load_pipelines(globals(), folder)` in a DAG file is all it takes.

The name of this module holds the word that Airflow looks for in a file before it parses it as a DAG file.
"""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.exceptions import SerializationError
from airflow.sdk import DAG, Asset, AssetAll, AssetAny, BaseOperator, Param, get_parsing_context

from airflow_mlpipe import definitions
from airflow_mlpipe.definitions import Schedule, load_pipeline
from airflow_mlpipe.definitions.graph import edges
from airflow_mlpipe.definitions.parallel import helpers_of
from airflow_mlpipe.exceptions import DefinitionError, MlpipeError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.operators.here import workspace_at
from airflow_mlpipe.operators.plan import PlanOperator
from airflow_mlpipe.operators.regenerate import REGENERATE
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.operators.sweep import Planned, sweep_tasks, tasks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from airflow.sdk import Context

    from airflow_mlpipe.definitions import Pipeline, PipelineParameter, Step, Workspace

PLAN = "plan"
"""The task that decides reuse; no step may have this name."""

SUFFIXES = (".yaml", ".yml")

_WHERE_TO_LOOK = (
    "*Skipped* means reused, unless a branch or a condition led past it: nothing it depends on has changed. "
    f"The log of the task **{PLAN}** says which run made its outputs, or why a step runs."
)
"""In the page of a skipped task, which has no log."""

_BEGINNING = datetime(2024, 1, 1, tzinfo=timezone.utc)
"""The start date of a scheduled pipeline that gives none; with ``catchup: false`` only the newest interval runs."""


def load_pipelines(
    namespace: MutableMapping[str, Any], folder: str | Path, *, workspace: str | Path | None = None
) -> None:
    """Put a DAG for each pipeline definition of a folder into a DAG file's namespace.

    A definition that cannot be used becomes an import error of its own file; the others are loaded. Where Airflow asks
    for one DAG only, as in a task, only that one is built.

    :param namespace: ``globals()`` of the DAG file.
    :param folder: a folder with ``.yaml`` files, or one such file; relative to the DAG file.
    :param workspace: the workspace file; by default as ``[mlpipe] workspace`` says.
    """
    here = Path(namespace.get("__file__", ".")).resolve().parent
    wanted = get_parsing_context().dag_id
    with _no_collections():
        for file in definition_files((here / folder).resolve()):
            if wanted is not None and not _may_define(file, wanted):
                continue
            dag = _dag_of(file, workspace)
            if earlier := namespace.get(_variable(dag)):
                dag = BrokenPipeline(file, _twice(file, earlier))
            if wanted in (None, dag.dag_id):
                namespace[_variable(dag)] = dag


def _variable(dag: DAG) -> str:
    return f"mlpipe_dag_{dag.dag_id}"


def _twice(file: Path, earlier: DAG) -> str:
    defined = earlier.get_task(PLAN).pipeline.source_file
    return f"{file}: name: {earlier.dag_id} is the name of the pipeline in {defined} too. Choose another name"


@contextmanager
def _no_collections() -> Iterator[None]:
    """Collect no garbage meanwhile: nearly all that is made here stays, and looking for what does not takes a third."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def make_dag(pipeline: Pipeline, *, workspace: str | Path | None = None) -> DAG:
    """Return the DAG of a pipeline: a task ``plan``, and one for each step.

    Tasks of your own may be attached to it; those that come before a step make the step decide in its turn.

    :raises DefinitionError: if the workspace lacks something the pipeline names.
    """
    place = workspace_at(workspace, pipeline.folder)
    if problems := place.check(pipeline):
        raise DefinitionError(problems)
    dag = DAG(
        dag_id=pipeline.name,
        description=pipeline.description or None,
        doc_md=pipeline.description or None,
        schedule=schedule_of(pipeline),
        start_date=pipeline.start_date or _BEGINNING,
        end_date=pipeline.end_date,
        catchup=pipeline.catchup,
        tags=list(pipeline.tags),
        on_success_callback=callback(pipeline.on_success),
        on_failure_callback=callback(pipeline.on_failure),
        **_given(max_active_runs=pipeline.max_active_runs or (1 if pipeline.schedule == "@continuous" else None)),
        default_args=_given(owner=pipeline.owner),
    )
    tries = {**_given(**_tries(place.defaults)), **_given(**_tries(pipeline))}
    plan = PlanOperator(task_id=PLAN, pipeline=pipeline, workspace=workspace, dag=dag, **tries)
    operators = {step.name: _operator(step, pipeline, workspace, place, dag) for step in pipeline.steps}
    upstream = edges(pipeline)
    first = {name: dag.get_task(tasks_of(operator)[0]) for name, operator in operators.items()}
    plan.set_downstream([first[name] for name, before in upstream.items() if not before])
    for name, before in upstream.items():
        if before:
            first[name].set_upstream([operators[other] for other in before])
    dag.params = params_of(pipeline)  # now, as Airflow copies what is there into each task
    dag.validate()
    return dag


def definition_files(folder: Path) -> list[Path]:
    """Return the definition files of a folder, sorted; a file stands for itself.

    :raises FileNotFoundError: if there is no such folder.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        message = f"there is no folder {folder}: give load_pipelines the folder with the pipeline definitions"
        raise FileNotFoundError(message)
    files = (file for file in folder.iterdir() if file.suffix in SUFFIXES)
    return sorted(file for file in files if file.stem != "mlpipe")


def _dag_of(file: Path, workspace: str | Path | None) -> DAG:
    try:
        place = workspace_at(workspace, file.parent)
        return make_dag(load_pipeline(file, place), workspace=workspace)
    except MlpipeError as error:
        return BrokenPipeline(file, str(error))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it must not take the other pipelines away
        return BrokenPipeline(file, f"{file}: Airflow can make no DAG of it: {type(error).__name__}: {error}")


def _may_define(file: Path, dag_id: str) -> bool:
    """Say cheaply whether a file can define a DAG: its name stands in it."""
    try:
        return dag_id.encode() in file.read_bytes()
    except OSError:
        return True


class BrokenPipeline(DAG):
    """Stands for a definition that cannot be used, until Airflow serializes it and learns why.

    Airflow takes all DAGs of a file away when the file has an import error. Saying that this DAG comes from the
    definition's own file keeps the error there, and the other pipelines of the DAG file in place.
    """

    def __init__(self, file: Path, error: str) -> None:
        super().__init__(dag_id=f"broken.{fingerprint({'file': os.fsencode(file)})}", schedule=None)
        self.definition_file = file
        _Problem(task_id="problem", dag=self).error = error

    @property
    def relative_fileloc(self) -> str | None:
        """The definition's file, relative to the bundle."""
        return self.__dict__.get("definition_fileloc")

    @relative_fileloc.setter
    def relative_fileloc(self, loader: str | None) -> None:
        if loader is None:
            return
        bundle = Path(self.fileloc).parents[len(Path(loader).parts) - 1].resolve()
        file = self.definition_file
        self.__dict__["definition_fileloc"] = str(file.relative_to(bundle) if file.is_relative_to(bundle) else file)


class _Problem(BaseOperator):
    """Says what is wrong when Airflow serializes it."""

    template_fields = ("problem",)
    error = ""

    @property
    def problem(self) -> str:
        """Nothing: asking for it, once it is known what is wrong, raises that."""
        if self.error:
            raise SerializationError(self.error)
        return ""


def _operator(step: Step, pipeline: Pipeline, workspace: str | Path | None, place: Workspace, dag: DAG) -> StepOperator:
    settings = place.settings_of(pipeline, step)
    of_step: dict[str, Any] = {
        "task_id": step.name,
        "folder": pipeline.folder,
        "workspace": workspace,
        "trigger_rule": "none_failed",
        "doc_md": f"{step.description}\n\n{_WHERE_TO_LOOK}".strip(),
        "task_display_name": step.display_name or step.name,
        "on_success_callback": callback(step.on_success),
        "on_failure_callback": callback(step.on_failure),
        "on_retry_callback": callback(step.on_retry),
        **_given(retries=settings.retries, retry_delay=settings.retry_delay, priority_weight=step.priority),
    }
    of_run = _given(execution_timeout=settings.timeout, pool=step.pool)
    if helpers_of(step):
        return sweep_tasks(Planned(step, pipeline, workspace), dag, of_step, of_run)
    return StepOperator(step=step, pipeline=pipeline, dag=dag, **of_step, **of_run)


def schedule_of(pipeline: Pipeline) -> Any:  # noqa: ANN401 -- everything DAG(schedule=) takes
    """Return a pipeline's schedule as Airflow takes it."""
    match pipeline.schedule:
        case Schedule(every=timedelta() as every):
            return every
        case Schedule(assets=assets):
            return _assets(assets)
        case schedule:
            return schedule


def _assets(expression: Any) -> Asset | AssetAll | AssetAny:  # noqa: ANN401 -- an asset expression
    match expression:
        case str():
            return Asset(expression)
        case definitions.AssetAll():
            return AssetAll(*(_assets(part) for part in expression.all))
        case _:
            return AssetAny(*(_assets(part) for part in expression.any))


def params_of(pipeline: Pipeline) -> dict[str, Param]:
    """Return the fields of the trigger form: the pipeline's parameters, and which steps must not be reused."""
    params = {name: _param(parameter) for name, parameter in pipeline.parameters.items()}
    names = [step.name for step in pipeline.steps]
    params[REGENERATE] = Param(
        [],
        type=["null", "array"],  # else the form demands a choice
        title="Regenerate outputs",
        description="Steps that must run even if nothing has changed; 'all' for every step, empty for none.",
        items={"type": "string", "enum": ["all", *names]},
        examples=["all", *names],
    )
    return params


def _param(parameter: PipelineParameter) -> Param:
    schema = parameter.json_schema()
    if bounds := _bounds(schema):
        schema["description"] = f"{schema.get('description', '')} ({bounds})".strip()
    return Param(schema.pop("default"), **schema) if "default" in schema else Param(**schema)


def _bounds(schema: dict[str, Any]) -> str:
    """Say what a number may be: the form checks it, and shows it nowhere."""
    match schema.get("minimum"), schema.get("maximum"):
        case None, None:
            return ""
        case low, None:
            return f"at least {low:g}"
        case None, high:
            return f"at most {high:g}"
        case low, high:
            return f"{low:g} to {high:g}"


@lru_cache(maxsize=256)
def callback(dotted: str | None) -> Callable[[Context], None] | None:
    """Return a function that imports and calls ``module.function`` when Airflow calls it."""
    if dotted is None:
        return None
    module, _, name = dotted.rpartition(".")

    def call(context: Context) -> None:
        getattr(import_module(module), name)(context)

    call.__name__ = call.__qualname__ = name
    return call


def _tries(settings: Any) -> dict[str, Any]:  # noqa: ANN401 -- a pipeline or a workspace's defaults
    return {"retries": settings.retries, "retry_delay": settings.retry_delay}


def _given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 -- arguments of anything
    return {name: value for name, value in values.items() if value is not None}
