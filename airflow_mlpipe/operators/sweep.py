"""The three tasks of a sweep: `<step>.plan` says which trials are missing, `<step>.trial` runs them, `<step>` takes the best.

Those of a step with mini-batches are the same; `<step>.batch` runs these, and `<step>` puts together what they left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlpipe.definitions import parallel
from airflow_mlpipe.definitions.parallel import helpers_of
from airflow_mlpipe.definitions.sweep import TABLE, sweep_of
from airflow_mlpipe.exceptions import MlpipeError, StepError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.operators.binding import Bound, NotRun, bind_from_plan
from airflow_mlpipe.operators.claims import Wait
from airflow_mlpipe.operators.compose import BEGUN, failures, tried_in
from airflow_mlpipe.operators.here import open_site, workspace_at
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.operators.step import StepOperator
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import Reason
from airflow_mlpipe.planning.gate import UPSTREAM
from airflow_mlpipe.planning.plan import Found
from airflow_mlpipe.planning.trials import label, name_of, objective_of, trials_of
from airflow_mlpipe.resolving.batches import deal_out, dealt_out
from airflow_mlpipe.resolving.decide import StoreLookUp
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.resolving.records import use_of
from airflow_mlpipe.resolving.trials import Tried, look_up_trials
from airflow_mlpipe.store import journal, runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from airflow.sdk import DAG, Context

    from airflow_mlpipe.definitions import Pipeline, Step
    from airflow_mlpipe.operators.leaving import Resumed
    from airflow_mlpipe.operators.life import Life
    from airflow_mlpipe.operators.outcome import Outcome
    from airflow_mlpipe.resolving.site import Site

_SHOWN = 1000
"""How many trials the XCom of a sweep holds."""


@dataclass(frozen=True, eq=False)
class Planned:
    """A step of a pipeline, as the argument of a mapped operator: its text is all that Airflow keeps of it."""

    step: Step
    pipeline: Pipeline
    workspace: str | Path | None

    def __str__(self) -> str:
        return f"{self.step.name} of {self.pipeline.digest}"

    def __deepcopy__(self, memo: object) -> Planned:
        return self


class SweepPlanOperator(BaseOperator):
    """Say which trials or mini-batches are missing; returns their numbers, in as many lists as tasks may run them.

    It starts nothing, and so needs no compute; where the step as a whole is known by now, nothing is missing.

    :param planned: the step.
    """

    template_fields: Sequence[str] = ("definition",)
    shallow_copy_attrs: Sequence[str] = ("planned",)
    ui_color = "#dae8fc"

    def __init__(self, *, planned: Planned, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned = planned
        self.definition = planned.pipeline.digest
        self.custom_operator_name = "sweep" if sweep_of(planned.step) else "parallel"

    def execute(self, context: Context) -> list[list[int]]:
        """Look up all trials or mini-batches at once; mini-batches are dealt out before."""
        step, pipeline = self.planned.step, self.planned.pipeline
        run = RunContext.of(context, step.name)
        site = open_site(workspace_at(self.planned.workspace, pipeline.folder))
        bound = bind_from_plan(site, run, pipeline, step, context["params"], self.log.info)
        if isinstance(bound, NotRun):
            message = f"not run: {bound.reason.what}"
            raise AirflowSkipException(message)
        look_up = StoreLookUp(site, run.pipeline, run.run, lambda spec: interpreter_for(spec.environment, site.store))
        if self._is_known(bound, look_up):
            self.log.info("nothing is missing: the step as a whole is known")
            return []
        spec = deal_out(site, bound.task.spec, run.run, bound.plan, self.task_id)
        bound = replace(bound, task=replace(bound.task, spec=spec))
        tried = self._tried(bound, look_up)
        self.log.info("%s, %d run", tried.line(), len(tried.missing))
        for trial in tried.missing:
            self.log.info("%s runs", trial)
        uses = [
            use_of(trial.spec, "reused", trial.fingerprint, tried.found[trial.number])
            for trial in tried.trials
            if trial.number in tried.found
        ]
        journal.append(site.store, run.pipeline, run.run, run.moments, uses)
        return chunks([trial.number for trial in tried.missing], conf.getint("core", "max_map_length"))

    @staticmethod
    def _is_known(bound: Bound, look_up: StoreLookUp) -> bool:
        task = bound.task
        if not task.allow_reuse or not task.spec.environment.comparable:
            return False
        digest = fingerprint(components(task.spec))
        return isinstance(look_up.find(task.spec, digest, only_this_run=task.regenerate), Found)

    @staticmethod
    def _tried(bound: Bound, look_up: StoreLookUp) -> Tried:
        task = bound.task
        if not task.allow_reuse:  # rule 11: that never looks
            return Tried(task.spec, trials_of(task.spec), {})
        return look_up_trials(look_up, task.spec, only_this_run=task.regenerate)


def chunks(numbers: Sequence[int], most: int) -> list[list[int]]:
    """Return numbers in lists of one each, or of more where there may not be so many lists."""
    size = max(1, math.ceil(len(numbers) / most))
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


class TrialOperator(StepOperator):
    """Run one trial of a sweep or one mini-batch, or a few, one after another; each lives the life of a step.

    :param planned: the step.
    :param trials: their numbers.
    """

    def __init__(self, *, planned: Planned, trials: Sequence[int], **kwargs: Any) -> None:
        step, pipeline = planned.step, planned.pipeline
        kwargs["multiple_outputs"] = False  # nobody reads what a trial leaves but the sweep, which finds it
        super().__init__(step=step, pipeline=pipeline, folder=pipeline.folder, workspace=planned.workspace, **kwargs)
        self.planned = planned
        self.trials = tuple(trials)
        self.number = self.trials[0]
        self.title = self._title()

    def _told(self) -> tuple[()]:
        return ()  # the best of the trials, or all batches together, are news; see `SweepOperator`

    def _title(self) -> str:
        """Return what Airflow's pages show in place of the map index."""
        if len(self.trials) > 1:
            return f"{self.number} to {self.trials[-1]}"
        sweep = sweep_of(self.step)
        known = sweep.trials if sweep else ()
        return f"{self.number}: {label(known[self.number - 1])}" if self.number <= len(known) else str(self.number)

    def _execute(self, context: Context, before: Wait, told: Mapping[str, Any] | None = None) -> Any:
        """Run the trials; one that fails does not keep the others from running."""
        errors: list[MlpipeError] = []
        if not told and before == Wait() and context["ti"].try_number > 1:
            self._begin_anew(context)
        names = [name_of(self.step.name, number) for number in self.trials]
        for number in self.trials:
            self.number = number
            if self.stopped:
                break
            theirs = told and told["launch"]["step"] in names and told["launch"]["step"] != self._run_of(context).step
            try:
                super()._execute(context, before, None if theirs else told)
            except MlpipeError as error:
                if len(self.trials) == 1:
                    raise
                self.log.error("trial %d failed: %s", number, error)  # noqa: TRY400 -- the message says it all
                errors.append(error)
        if errors:
            message = f"{len(errors)} of {len(self.trials)} trials failed; the first: {errors[0]}"
            raise StepError(message)

    def _begin_anew(self, context: Context) -> None:
        """Take back what earlier tries came to: if this one is killed, it has left nothing that it could be judged by."""
        store = self._site().store
        for run in self._runs_of(context):
            if note := runs.read_note(store, run.pipeline, run.run, run.step):
                runs.write_note(store, run.pipeline, run.run, run.step, {**BEGUN, "plan": note.get("plan", "")})

    def _run_of(self, context: Context) -> RunContext:
        run = RunContext.of(context, self.step.name)
        return replace(run, step=name_of(self.step.name, self.number))

    def _leave_more(self, context: Context, life: Life, outcome: Outcome) -> None:
        """Leave nothing: the table of the step tells all of it."""

    def _runs_of(self, context: Context) -> list[RunContext]:
        run = self._run_of(context)
        return [replace(run, step=name_of(self.step.name, number)) for number in self.trials]

    def _bind(self, context: Context, run: RunContext, site: Site, folder: Path) -> Bound | NotRun:
        bound = super()._bind(context, replace(run, step=self.step.name), site, folder)
        if isinstance(bound, NotRun):
            return bound
        plan = helpers_of(self.step)[0]
        trials = trials_of(dealt_out(site, bound.task.spec, run.run, plan))
        if self.number > len(trials):
            what = "trial" if bound.task.spec.sweep else "mini-batch"
            message = f"there is no {what} {self.number} any more, the definition has changed: clear the task {plan}"
            raise StepError(message)
        trial = trials[self.number - 1]
        self.log.info("%s of %d", trial, len(trials))
        if len(self.trials) == 1:
            self.title = f"{self.number}: {trial.what}"
        return replace(bound, task=replace(bound.task, spec=trial.spec))


class SweepOperator(StepOperator):
    """Take the best of the trials of a sweep: its outputs and metrics are those of the step. Or what all mini-batches left.

    Leaves a table of them as the XCom ``trials`` or ``batches``. What is put before it comes before all three tasks.
    """

    def update_relative(self, other: Any, upstream: bool = True, edge_modifier: Any = None) -> None:  # noqa: FBT001, FBT002
        """Put a task that is put before this one before the first of the three as well; Airflow calls it."""
        super().update_relative(other, upstream, edge_modifier=edge_modifier)
        if upstream:
            self._put_first([other], edge_modifier)

    def set_upstream(self, task_or_task_list: Any, edge_modifier: Any = None) -> None:
        """Put tasks before this one, and before the first of the three."""
        super().set_upstream(task_or_task_list, edge_modifier)
        self._put_first(task_or_task_list, edge_modifier)

    def _put_first(self, tasks: Any, edge_modifier: Any) -> None:
        given = tasks if isinstance(tasks, Sequence) else [tasks]
        helpers, dag = helpers_of(self.step), self.dag if self.has_dag() else None
        others = [task for task in given if getattr(task, "task_id", None) not in helpers]
        if others and dag and dag.has_task(helpers[0]):
            dag.get_task(helpers[0]).set_upstream(others, edge_modifier)

    def _execute(self, context: Context, before: Wait, told: Mapping[str, Any] | None = None) -> Any:
        """Make sure that the trials were planned, then go the way of a step.

        :raises AirflowFailException: if they were not, or a task that somebody attached before this one failed.
        """
        for other in sorted(self.upstream_task_ids - {*helpers_of(self.step)}):  # any trigger rule but ours sees that
            if (ended := self._state_of(context, other)) not in {"success", "skipped"}:
                message = f"not run: {other}, which comes before it, is {ended or 'not done'}"
                raise AirflowFailException(message)
        state = self._state_of_plan(context)
        if state not in {"success", "skipped"}:
            message = (
                f"not run: {self._plan_task} is {state or 'not done'}; see its log, and that of what comes before it"
            )
            raise AirflowFailException(message)
        return super()._execute(context, before, told)

    @property
    def _plan_task(self) -> str:
        return helpers_of(self.step)[0]

    def _state_of_plan(self, context: Context) -> str | None:
        return self._state_of(context, self._plan_task)

    @staticmethod
    def _state_of(context: Context, task_id: str) -> str | None:
        ti: Any = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
        state = states.get(ti.run_id, {}).get(task_id)
        return str(getattr(state, "value", state)) if state else None

    def _bind(self, context: Context, run: RunContext, site: Site, folder: Path) -> Bound | NotRun:
        """Bind the step; where nobody has looked for trials, as a branch led past that, it only reuses."""
        bound = super()._bind(context, run, site, folder)
        if isinstance(bound, NotRun):
            return bound
        spec = dealt_out(site, bound.task.spec, run.run, self._plan_task)
        bound = replace(bound, task=replace(bound.task, spec=spec))
        if self._state_of_plan(context) == "success":
            return bound
        look_up, task = self._life(run, site, bound, Wait(), None).look_up, bound.task
        anew = task.regenerate or not task.allow_reuse
        if isinstance(look_up.find(task.spec, fingerprint(components(task.spec)), only_this_run=anew), Found):
            return bound
        why = f"{self._plan_task} was skipped{', and the step is not to be reused' if anew else ''}"
        return NotRun(Reason(UPSTREAM, f"{why}; to run the step, clear that"), bound.plan)

    def _life(self, run: RunContext, site: Site, bound: Bound, before: Wait, resumed: Resumed | None) -> Life:
        self._task = bound.task
        return replace(super()._life(run, site, bound, before, resumed), trials_here=False)

    def _leave_more(self, context: Context, life: Life, outcome: Outcome) -> None:
        super()._leave_more(context, life, outcome)
        allow_reuse, regenerate = self._task.allow_reuse, self._task.regenerate
        tried = tried_in(life, outcome.spec, allow_reuse=allow_reuse, regenerate=regenerate)
        rows = list(table(life, tried, reused=outcome.result != "ran"))
        for row in rows:
            self.log.info("%s", _line(row))
        key = TABLE if outcome.spec.sweep else parallel.TABLE
        context["ti"].xcom_push(key=key, value=rows[:_SHOWN])


def table(life: Life, tried: Tried, *, reused: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what became of each trial: number, parameters, objective (None without one), outcome and error.

    Of a mini-batch: number, how many files, outcome and error.

    :param reused: whether the step as a whole was made elsewhere, where a trial that is not known has failed.
    """
    notes = runs.read_notes(life.site.store, life.owner.pipeline, life.owner.run)
    failed = failures(life, tried)
    for trial in tried.trials:
        note, found = notes.get(trial.spec.step, {}), tried.found.get(trial.number)
        value = objective_of(tried.spec.sweep, found.metrics) if found and tried.spec.sweep else None
        done = note.get("outcome") if note.get("plan") == life.plan else None
        outcome = "failed" if found is None else done if done in {"ran", "waited"} else "reused"
        error = failed[trial.number].error if trial.number in failed else None
        if reused and found is None and done != "failed":
            error = "it failed when the step was made"
        if trial.files:
            about: dict[str, Any] = {"batch": trial.number, "files": len(trial.files)}
        else:
            about = {"trial": trial.number, "parameters": dict(trial.parameters)}
            about["objective"] = None if isinstance(value, str) else value
        yield {**about, "outcome": outcome, **({"error": error} if error else {})}


def _line(row: Mapping[str, Any]) -> str:
    if "batch" in row:
        return f"batch {row['batch']}: {row['outcome']}, {row['files']} files" + (
            f": {row['error']}" if "error" in row else ""
        )
    value = "none" if row["objective"] is None else f"{row['objective']:.6g}"
    what = f"trial {row['trial']}: {row['outcome']}, objective {value}, {label(row['parameters'])}"
    return f"{what}: {row['error']}" if "error" in row else what


def sweep_tasks(planned: Planned, dag: DAG, settings: Mapping[str, Any], own: Mapping[str, Any]) -> SweepOperator:
    """Make the three tasks of a sweep, or of a step with mini-batches; return the one that is named after the step.

    :param settings: what holds for each of its tasks.
    :param own: what holds for what runs the trials or mini-batches alone.
    """
    step = planned.step
    plan_id, trial_id = helpers_of(step)
    dealt = sweep_of(step) or parallel.parallel_of(step)
    alike = {key: value for key, value in settings.items() if key in _ALIKE}
    plan = SweepPlanOperator(task_id=plan_id, planned=planned, dag=dag, **alike)
    trials = TrialOperator.partial(
        task_id=trial_id,
        planned=planned,
        dag=dag,
        map_index_template="{{ task.title }}",
        **({"max_active_tis_per_dagrun": dealt.max_concurrent} if dealt and dealt.max_concurrent else {}),
        **alike,
        **own,
    ).expand(trials=plan.output)
    made = SweepOperator(step=step, pipeline=planned.pipeline, dag=dag, **{**settings, "trigger_rule": "all_done"})
    made.set_upstream([plan, trials])
    return made


_ALIKE = {"retries", "retry_delay", "priority_weight", "trigger_rule", "on_retry_callback"}


def is_helper(task: Any) -> bool:
    """Say whether a task is one of a sweep that is not named after the step."""
    return issubclass(getattr(task, "operator_class", type(task)), SweepPlanOperator | TrialOperator)


def tasks_of(operator: StepOperator) -> tuple[str, ...]:
    """Return the tasks of a step: one, or those of its sweep."""
    return (
        (*helpers_of(operator.step), operator.task_id) if isinstance(operator, SweepOperator) else (operator.task_id,)
    )
