"""`PlanOperator`: the first task of a pipeline's DAG decides reuse for all its steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import DownstreamTasksSkipped
from airflow.sdk.execution_time.xcom import XCom

from airflow_mlpipe.definitions import parameter_values
from airflow_mlpipe.operators.announce import announce, others, outlets_of
from airflow_mlpipe.operators.here import open_site, workspace_at
from airflow_mlpipe.operators.regenerate import REGENERATE, chosen_steps
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.operators.step import StepOperator, describe_metrics, describe_outputs
from airflow_mlpipe.operators.sweep import is_helper, tasks_of
from airflow_mlpipe.planning.explain import summary
from airflow_mlpipe.resolving.planner import make_plan
from airflow_mlpipe.resolving.tracking import Tracking
from airflow_mlpipe.store import layout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from airflow.sdk import DAG, Context

    from airflow_mlpipe.definitions import Pipeline
    from airflow_mlpipe.planning.plan import Choice, Decision
    from airflow_mlpipe.resolving.planner import RunPlan
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef


_WORDS: Mapping[Choice, str] = {
    "reuse": "reused",
    "run": "to run",
    "depends": "decided later",
    "not_run": "not to run",
}


class PlanOperator(BaseOperator):
    """Bind all steps of a pipeline, and skip those whose outputs can be reused.

    Returns the counts of each decision and where ``plan.json`` lies. A step that other tasks than the pipeline's come
    before, or count on to succeed, is left to decide in its turn. One whose condition does not hold is skipped, too.

    :param pipeline: the definition.
    :param workspace: the workspace file; by default as ``[mlpipe] workspace`` says.
    """

    template_fields: Sequence[str] = ("definition", "decisions")
    template_fields_renderers: Mapping[str, str] = {"decisions": "json"}
    shallow_copy_attrs: Sequence[str] = ("pipeline",)
    overwrite_rtif_after_execution = True
    ui_color = "#dae8fc"

    def __init__(self, *, pipeline: Pipeline, workspace: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.workspace = workspace
        self.definition = pipeline.digest
        self.decisions: dict[str, str] = {}
        self.announces = outlets_of(pipeline.name, (o for step in pipeline.steps for o in step.outputs.values()))
        self.outlets.extend(outlet for outlet in self.announces if outlet not in self.outlets)

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan, tell the tasks still to run what was reused, skip the rest."""
        run = RunContext.of(context)
        site = open_site(workspace_at(self.workspace, self.pipeline.folder))
        parameters, regenerate = self._form(context)
        operators = {task.step.name: task for task in self.dag.tasks if is_planned(task)}
        seen = seen_outside(self.dag)
        plan = make_plan(
            site,
            self.pipeline,
            run.run,
            run.values(parameters),
            regenerate=regenerate,
            waits={name: foreign_upstream(operator) for name, operator in operators.items()},
            outside={name for name, operator in operators.items() if operator.task_id in seen},
        )
        self._say(plan)
        Tracking.of(site, self.pipeline, run.run, self.log.warning).planned(plan)
        reused = {operators[name]: plan.decisions[name] for name in plan.reused() if name in operators}
        skipped = {operator.task_id: decision for operator, decision in reused.items() if may_be_skipped(operator)}
        self._write_xcoms(context, site, {task_id: skipped[task_id] for task_id in skipped.keys() & seen})
        announce(context, self, [(decision.spec, _outputs(decision)) for decision in reused.values()])
        result = self._result(plan, site)
        not_run = [operators[name].task_id for name in plan.not_run() if name in operators]
        if skipped or not_run:
            context["ti"].xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=result)
            skipped_steps = [self.dag.get_task(task_id) for task_id in (*skipped, *not_run)]
            raise DownstreamTasksSkipped(tasks=[task_id for step in skipped_steps for task_id in tasks_of(step)])
        return result

    def _form(self, context: Context) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the typed parameters, and the steps that must not be reused.

        Params that the DAG has beside those of the pipeline are left to whoever added them.

        :raises ParameterError: if a value is refused, or a name is unknown.
        """
        given = {**dict.fromkeys(context["dag_run"].conf or {}), **context["params"]}
        chosen = given.pop(REGENERATE, None)
        added = set(self.dag.params) - set(self.pipeline.parameters)
        parameters = parameter_values(self.pipeline, {name: given[name] for name in given.keys() - added})
        return parameters, chosen_steps(chosen, {step.name for step in self.pipeline.steps})

    def _say(self, plan: RunPlan) -> None:
        counts = self._counts(plan)
        self.log.info(
            "%s", ", ".join(f"{counts[choice]} {word}" for choice, word in _WORDS.items() if counts.get(choice))
        )
        for name, decision in plan.decisions.items():
            self.decisions[name] = f"{_WORDS[decision.choice]}: {_why(decision)}"
            self.log.info("%s: %s", name, self.decisions[name])

    @staticmethod
    def _counts(plan: RunPlan) -> dict[str, int]:
        choices = [decision.choice for decision in plan.decisions.values()]
        return {choice: choices.count(choice) for choice in _WORDS if choice != "not_run" or choice in choices}

    def _result(self, plan: RunPlan, site: Site) -> dict[str, Any]:
        return {**self._counts(plan), "plan": site.store.uri(layout.plan(plan.pipeline, plan.run))}

    @staticmethod
    def _write_xcoms(context: Context, site: Site, reused: Mapping[str, Decision]) -> None:
        """Leave the outputs of reused steps where tasks outside the pipeline look for them."""
        ti = context["ti"]
        for task_id, decision in reused.items():
            outputs = describe_outputs(_outputs(decision), site)
            metrics = describe_metrics(decision.found.metrics if decision.found else {}, outputs)
            for key, value in {**outputs, **metrics, BaseXCom.XCOM_RETURN_KEY: outputs}.items():
                XCom.set(key=key, value=value, dag_id=ti.dag_id, task_id=task_id, run_id=ti.run_id)


def is_planned(task: Any) -> bool:
    """Say whether a task is a step of the pipeline; everything else in the DAG is the user's own."""
    return isinstance(task, StepOperator) and task.pipeline is not None


def is_own(task: Any) -> bool:
    """Say whether a task is a step of the pipeline, or one of several that a step has."""
    return is_planned(task) or is_helper(task)


def foreign_upstream(operator: StepOperator) -> tuple[str, ...]:
    """Return the direct upstream tasks that are not the pipeline's: they may gate a step, or make its data."""
    of_step = (operator.dag.get_task(task_id) for task_id in tasks_of(operator))
    upstream = (
        operator.dag.get_task(task_id) for task_id in sorted({i for task in of_step for i in task.upstream_task_ids})
    )
    return tuple(task.task_id for task in upstream if not is_own(task) and not isinstance(task, PlanOperator))


def seen_outside(dag: DAG) -> set[str]:
    """Return the tasks that a task of the user's own comes somewhere after, and may read."""
    foreign = (task for task in dag.tasks if not is_own(task))
    return set().union(*(task.get_flat_relative_ids(upstream=True) for task in foreign))


def may_be_skipped(operator: StepOperator) -> bool:
    """Say whether nobody counts on the task of a reused step to end as success.

    Its callback would not be called, assets that the user gave it would not be updated, and a task of the user's own
    that wants success would be skipped with it.
    """
    if operator.on_success_callback or others(operator.outlets, operator.announces):
        return False
    return all(is_own(operator.dag.get_task(task_id)) for task_id in operator.downstream_task_ids)


def _outputs(decision: Decision) -> Mapping[str, OutputRef]:
    return decision.found.outputs if decision.found else {}


def _why(decision: Decision) -> str:
    if decision.choice == "depends" and not decision.reasons:
        return "after " + ", ".join(decision.depends_on)
    if decision.choice == "reuse" and decision.found:
        return f"nothing it depends on has changed since run {decision.found.made_by.get('run', '?')}"
    return summary(decision.reasons)
