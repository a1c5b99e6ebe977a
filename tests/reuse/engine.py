"""Runs a whole pipeline at a site without Airflow: plans it, then does for each step what its operator does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import Workspace, parameter_values
from airflow_mlpipe.definitions.graph import edges, order
from airflow_mlpipe.exceptions import MlpipeError
from airflow_mlpipe.launchers.choose import launcher_for
from airflow_mlpipe.operators.binding import bind_from_plan, bind_here
from airflow_mlpipe.operators.life import Life
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.resolving.decide import History, StoreLookUp
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.resolving.planner import RunPlan, make_plan
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.store.digests import local_files
from airflow_mlpipe.store.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow_mlpipe.definitions import Pipeline, Step
    from airflow_mlpipe.operators.binding import Bound
    from airflow_mlpipe.operators.life import Outcome
    from airflow_mlpipe.runtime.protocol import OutputRef, StepResult, StepSpec

MOMENTS = {"run_after": "2024-05-01T00:00:00+00:00"}


@dataclass(frozen=True)
class Ended:
    """How a step of a run ended: reused (by the plan or in its turn), ran, waited, failed or not_run."""

    outcome: str
    fingerprint: str | None = None
    outputs: Mapping[str, OutputRef] = field(default_factory=dict)
    line: str = ""
    number: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class Ran:
    """How a run ended, by step, and the plan it followed."""

    plan: RunPlan | None
    steps: Mapping[str, Ended]

    def outcomes(self) -> dict[str, str]:
        return {name: ended.outcome for name, ended in self.steps.items()}

    def __getitem__(self, step: str) -> Ended:
        return self.steps[step]


class Engine:
    """Runs pipelines at one site.

    :param launcher: makes the launcher of a spec; by default the one that an operator takes.
    """

    def __init__(
        self,
        root: Path,
        workspace: Workspace | None = None,
        launcher: Callable[[Site, StepSpec], Any] = launcher_for,
        store: str | None = None,
    ) -> None:
        self.root = root
        self.site = Site.open(workspace or Workspace(), default_store=store or root / "store")
        self.launcher = launcher
        self.launched: list[str] = []
        self.said: list[str] = []
        self.count = 0

    def run(  # what a run may differ in
        self,
        pipeline: Pipeline,
        run: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        regenerate: Collection[str] = (),
        moments: Mapping[str, str] = MOMENTS,
        only: Collection[str] | None = None,
        always: bool = False,
    ) -> Ran:
        """Plan a pipeline and run what has to run; what follows a failed step is not run.

        :param only: the steps that get their turn; the others stay as the plan left them.
        :param always: launch each step, whatever the store holds.
        """
        run = run or self.next_run()
        plan = self.plan(pipeline, run, parameters=parameters, regenerate=regenerate, moments=moments)
        return self.follow(pipeline, plan, parameters=parameters, moments=moments, only=only, always=always)

    def next_run(self) -> str:
        self.count += 1
        return f"r{self.count}"

    def plan(
        self,
        pipeline: Pipeline,
        run: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        moments: Mapping[str, str] = MOMENTS,
        **options: Any,
    ) -> RunPlan:
        """Do what the task `plan` does."""
        values = context(pipeline, run, "plan", moments).values(parameter_values(pipeline, parameters or {}))
        return make_plan(self.site, pipeline, run, values, **options)

    def follow(
        self,
        pipeline: Pipeline,
        plan: RunPlan,
        *,
        parameters: Mapping[str, Any] | None = None,
        moments: Mapping[str, str] = MOMENTS,
        only: Collection[str] | None = None,
        always: bool = False,
    ) -> Ran:
        """Do what the tasks behind `plan` do, in dependency order."""
        needs, ended = edges(pipeline), {}
        for name in order(pipeline):
            decision = plan.decisions[name]
            if decision.choice == "reuse" and decision.found and not always:
                ended[name] = Ended("reused", decision.fingerprint, decision.found.outputs)
            elif only is not None and name not in only:
                continue
            elif any(ended[need].outcome in {"failed", "not_run"} for need in needs[name] if need in ended):
                ended[name] = Ended("not_run")
            else:
                run = context(pipeline, plan.run, name, moments)
                ended[name] = self.step(pipeline, run, parameters, always=always)
        return Ran(plan, {step.name: ended[step.name] for step in pipeline.steps if step.name in ended})

    def step(
        self, pipeline: Pipeline, run: RunContext, parameters: Mapping[str, Any] | None = None, *, always: bool = False
    ) -> Ended:
        """Do what the operator of a planned step does."""
        step = pipeline.step(run.step)
        try:
            bound = bind_from_plan(self.site, run, pipeline, step, parameters or {}, self.said.append)
            if bound is None:
                return Ended("not_run")
            if always:
                bound = replace(bound, task=replace(bound.task, allow_reuse=False))
            return _ended(self.life(run, bound).live(bound.task))
        except MlpipeError as error:
            return Ended("failed", error=error)

    def by_hand(self, pipeline: Pipeline, run: str, parameters: Mapping[str, Any] | None = None) -> Ran:
        """Run the steps as operators of a hand-written DAG: no plan, inputs come as the XComs of other tasks."""
        values, ended = parameter_values(pipeline, parameters or {}), {}
        for name in order(pipeline):
            step = pipeline.step(name)
            bound = self.bind_by_hand(pipeline, step, run, values, ended)
            ended[name] = _ended(self.life(context(pipeline, run, name), bound).live(bound.task))
        return Ran(None, ended)

    def bind_by_hand(
        self, pipeline: Pipeline, step: Step, run: str, values: Mapping[str, Any], ended: Mapping[str, Ended]
    ) -> Bound:
        """Bind one step as the operator of a hand-written DAG does."""
        given = {
            name: xcom(ended[bound.step].outputs[bound.output], self.site)
            for name, bound in step.inputs.items()
            if hasattr(bound, "output")
        }
        bound = bind_here(self.site, context(pipeline, run, step.name), step, pipeline.folder, values, given)
        assert bound is not None
        return bound

    def life(self, run: RunContext, bound: Bound) -> Life:
        """Return the life that an operator gives to a bound step."""
        history = History.read(self.site, run.pipeline, [run.step], bound.scanned)
        look_up = StoreLookUp(
            self.site, run.pipeline, run.run, lambda spec: interpreter_for(spec.environment, self.site.store)
        )
        return Life(self.site, look_up, history, run.owner(), self._launch, self.said.append, plan=bound.plan)

    def _launch(self, spec: StepSpec, fingerprint: str, claim: str) -> StepResult:
        self.launched.append(spec.step)
        launcher = self.launcher(self.site, spec)
        secrets = dict.fromkeys(spec.environment.secrets, "a secret value")
        return launcher.launch(spec, fingerprint, claim, secrets, self.said.append)

    def taken(self) -> list[str]:
        """Return the steps launched since it was asked last."""
        launched, self.launched = self.launched, []
        return launched

    def place(self, output: OutputRef) -> Path:
        """Return where an output lies on this machine."""
        uri = output.path if output.token is not None else self.site.store.uri(output.path)
        return Path(uri.removeprefix("file://"))

    def content(self, output: OutputRef) -> dict[str, bytes]:
        """Return the bytes of an output by relative path, those of a file under an empty one."""
        return tree(self.place(output))

    def contents(self, ran: Ran) -> dict[str, dict[str, dict[str, bytes]]]:
        """Return the bytes of all outputs of a run."""
        return {
            step: {name: self.content(output) for name, output in ended.outputs.items()}
            for step, ended in ran.steps.items()
        }

    def log(self, fingerprint: str | None) -> Log:
        """Return the log of a fingerprint."""
        assert fingerprint is not None
        return Log.read(self.site.store, fingerprint)


def tree(path: Path) -> dict[str, bytes]:
    """Return the bytes of the files at or below a path, by relative path."""
    return {relative: file.read_bytes() for relative, file in sorted(local_files(path).items())}


def context(
    pipeline: Pipeline, run: str, step: str, moments: Mapping[str, str] = MOMENTS, try_number: int = 1
) -> RunContext:
    """Return what Airflow would say of a task."""
    return RunContext(pipeline.name, run, step, f"{pipeline.name}/{run}/{step}/-1", try_number, moments)


def xcom(output: OutputRef, site: Site) -> dict[str, Any]:
    """Return an output as `StepOperator` leaves it for other tasks."""
    from airflow_mlpipe.operators.step import describe_output  # Airflow takes two seconds to import

    return describe_output(output, site)


def _ended(outcome: Outcome) -> Ended:
    return Ended(outcome.result, outcome.fingerprint, outcome.outputs, outcome.line(), outcome.number)
