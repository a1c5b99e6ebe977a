"""`StepOperator`: the life of a step as an Airflow task."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferralError, TaskDeferralTimeout, TaskDeferred

from airflow_mlpipe.definitions.dump import plain
from airflow_mlpipe.exceptions import ClaimLostError, StepError
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.launchers.base import Deferring
from airflow_mlpipe.operators.announce import announce, outlets_of
from airflow_mlpipe.operators.binding import NotRun, bind_from_plan, bind_here, bound_before
from airflow_mlpipe.operators.checks import check_ports, check_written, owner_of
from airflow_mlpipe.operators.claims import Wait, describe
from airflow_mlpipe.operators.here import open_site, workspace_at
from airflow_mlpipe.operators.leaving import GoesOnError, Resumed, abandon, come_back, leaving
from airflow_mlpipe.operators.life import Life
from airflow_mlpipe.operators.links import MadeByLink, WaitsForLink
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.operators.timeout import saying_how_long
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.planning.explain import dump_reasons
from airflow_mlpipe.resolving.decide import History, StoreLookUp
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.resolving.tracking import Ended, Tracking
from airflow_mlpipe.runtime.protocol import text_of
from airflow_mlpipe.store import runs
from airflow_mlpipe.triggers.claim import ClaimTrigger

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow.sdk import Context, Param

    from airflow_mlpipe.definitions import Pipeline, PipelineData, Step
    from airflow_mlpipe.launchers.base import Launcher
    from airflow_mlpipe.operators.binding import Bound
    from airflow_mlpipe.operators.outcome import Outcome
    from airflow_mlpipe.resolving.launched import Launched
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import Argument, OutputRef, Reference, StepResult, StepSpec
    from airflow_mlpipe.store.log import Claim


METRICS = "metrics"
"""The XCom key of the metrics of a step."""


class StepOperator(BaseOperator):
    """Run one step, or take its outputs from an earlier run of the same code, environment, inputs and parameters.

    Its outputs are XCom keys: ``operator.output["model"]`` is ``{"uri", "digest", "size", "files", "kind"}``. Its metrics
    are another, ``operator.output["metrics"]``, where it has logged any and no output has that name.

    :param step: the definition of the step.
    :param pipeline: the pipeline it belongs to, where a task ``plan`` has bound it; None binds it when the task runs.
    :param folder: the directory relative paths begin at; the folder of the DAG file by default.
    :param workspace: the workspace file; by default as ``[mlpipe] workspace`` says.
    :param upstream: inputs that other tasks give, by input name; each also makes the dependency.
    :raises DefinitionError: if the workspace lacks what the step names, or its files are not there.
    """

    template_fields: Sequence[str] = ("definition", "upstream", "command", "inputs", "outputs", "components")
    template_fields_renderers: Mapping[str, str] = {
        "upstream": "json",
        "command": "bash",
        "inputs": "json",
        "outputs": "json",
        "components": "json",
    }
    shallow_copy_attrs: Sequence[str] = ("step", "pipeline", "launcher")
    operator_extra_links = (MadeByLink(), WaitsForLink())
    overwrite_rtif_after_execution = True
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        step: Step,
        pipeline: Pipeline | None = None,
        folder: str | Path | None = None,
        workspace: str | Path | None = None,
        upstream: Mapping[str, XComArg | Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.step = step
        self.pipeline = pipeline
        if pipeline is not None:
            self.custom_operator_name = step.kind  # what the graph shows of its task
        self.folder = Path(folder) if folder else None
        self.workspace = workspace
        self.upstream = dict(upstream or {})
        self.definition = pipeline.digest if pipeline else fingerprint({"step": plain(step)})
        self.command = ""
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.components: dict[str, Any] = {}
        self.made_by: Mapping[str, str] = {}
        self.waits_for: Mapping[str, str] = {}
        self.launcher: Launcher | None = None
        self.tracking: Tracking | None = None
        self.stopped = False
        owner = owner_of(type(self), step.name)
        if pipeline is None and self.has_dag():
            check_written(owner, step, self.dag, self._folder(), workspace, self._params(), self.upstream)
        else:
            check_ports(owner, step)
        self.announces = outlets_of(self.dag_id if self.has_dag() else "", self._told())
        self.outlets.extend(outlet for outlet in self.announces if outlet not in self.outlets)

    def execute(self, context: Context) -> dict[str, Any]:
        """Bind, look up, claim, launch, commit; return the outputs."""
        return self._execute(context, Wait())

    def resume(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after a wait that the triggerer took over: bind, look up and so on, as the first time."""
        return self._execute(context, Wait(tuple(event["awaited"]), event["expired"], event["beat"]))

    def resume_launch(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on with what was launched before, now that its trigger has told something, under the claim that is held."""
        return self._execute(context, Wait(), event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a wait in the triggerer; where that failed, what was launched is ended and its claim given back."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout) as error:
            site = self._site()
            own = isinstance(error, TaskDeferralTimeout)
            for run in self._runs_of(context):
                left = abandon(site.store, run.owner(), partial(self._launcher, site), str(error), run.moments, own=own)
                if left:
                    self.log.info("what was launched is ended")
                    self._track(site, run, left.spec.step).failed(left.spec)
            raise

    def _run_of(self, context: Context) -> RunContext:
        return RunContext.of(context, self.step.name if self.pipeline else None)

    def _runs_of(self, context: Context) -> Sequence[RunContext]:
        """Return as whom this task runs: as one step, unless a subclass runs several."""
        return (self._run_of(context),)

    def _site(self) -> Site:
        return open_site(workspace_at(self.workspace, self._folder()))

    def _execute(self, context: Context, before: Wait, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
        run, site = self._run_of(context), self._site()
        resumed = self._resumed(site, run, told) if told else None
        own = resumed and told and (told["launch"]["pipeline"], told["launch"]["step"]) == (run.pipeline, run.step)
        bound = bound_before(resumed.launched) if resumed and own else self._bind(context, run, site, self._folder())
        if isinstance(bound, NotRun):
            note = {"outcome": "not_run", "reasons": dump_reasons([bound.reason]), "plan": bound.plan}
            runs.write_note(site.store, run.pipeline, run.run, run.step, note)
            message = f"not run: {bound.reason.what}"
            raise AirflowSkipException(message)
        life = self._life(run, site, bound, before, resumed)
        tracking = self.tracking = self._track(site, run, bound.task.spec.step)
        try:
            outcome = life.live(bound.task)
        except GoesOnError as goes_on:
            self._leave(site, goes_on)
        except TaskDeferred:
            raise
        except BaseException as error:
            if not (isinstance(error, ClaimLostError) and error.by_later_try):  # that speaks for the step now
                tracking.failed(bound.task.spec, killed=self.stopped)
            raise
        tracking.ended(Ended(outcome.spec, outcome.result, outcome.fingerprint, outcome.metrics, outcome.made_by))
        self.log.info("%s", outcome.line())
        self._show(outcome, site)
        announce(context, self, [(outcome.spec, outcome.outputs)])
        self._leave_more(context, life, outcome)
        return describe_outputs(outcome.outputs, site)

    def _track(self, site: Site, run: RunContext, step: str) -> Tracking:
        """Return what tells MLflow; ``step`` is that of the spec."""
        return Tracking.of(site, self.pipeline or run.pipeline, run.run, self.log.warning, {step: run.step})

    def _leave_more(self, context: Context, life: Life, outcome: Outcome) -> None:  # noqa: ARG002 -- subclasses do
        """Leave what there is to tell besides the outputs."""
        for key, value in describe_metrics(outcome.metrics, outcome.outputs).items():
            context["ti"].xcom_push(key=key, value=value)

    def on_kill(self) -> None:
        """End everything the step has started; what it has not started yet will not begin."""
        self.stopped = True
        if self.launcher is not None:
            self.launcher.kill()

    def _bind(self, context: Context, run: RunContext, site: Site, folder: Path) -> Bound | NotRun:
        if self.pipeline is not None:
            return bind_from_plan(site, run, self.pipeline, self.step, context["params"], self.log.info)
        step, upstream = self._defined()
        return bind_here(site, run, step, folder, self._typed(context["params"]), upstream)

    def _told(self) -> Iterable[PipelineData]:
        """Return the outputs whose assets this task announces."""
        return self.step.outputs.values()

    def _folder(self) -> Path:
        return Path(self.dag.folder, self.folder or "")

    def _params(self) -> dict[str, Param]:
        """Return the params of the DAG and the task, with their schemas."""
        return {name: given.get_param(name) for given in (self.dag.params, self.params) for name in given}

    def _typed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of params by the types these declare: the trigger form sends 1 for a number that is 1.0."""
        declared = self._params()
        return {
            name: typed(value, declared[name].schema.get("type")) if name in declared else value
            for name, value in params.items()
        }

    def _defined(self) -> tuple[Step, Mapping[str, Any]]:
        """Return the definition with what Airflow rendered in it, and the values of the inputs that other tasks give."""
        return self.step, self.upstream

    def _life(self, run: RunContext, site: Site, bound: Bound, before: Wait, resumed: Resumed | None) -> Life:
        history = History.read(site, run.pipeline, [run.step], bound.scanned)
        look_up = StoreLookUp(site, run.pipeline, run.run, lambda spec: interpreter_for(spec.environment, site.store))
        launch = partial(self._launch, site)
        return Life(
            site,
            look_up,
            history,
            run.owner(),
            launch,
            self.log.info,
            bound.plan,
            run.moments,
            partial(partial, self._hand_over, site),
            before,
            launcher_of=partial(self._launcher, site),
            resumed=resumed,
        )

    def _hand_over(self, site: Site, fingerprint: str, holder: Claim, awaited: tuple[str, ...]) -> NoReturn:
        """Leave the worker's slot; the triggerer waits, and the task goes on in `resume`."""
        owner = holder.owner
        self.waits_for = {"pipeline": owner.pipeline, "run": owner.run, "step": owner.step}
        self.log.info("gives its slot back while it waits for %s", describe(owner))
        trigger = ClaimTrigger(site.store.url, site.connection, fingerprint, list(awaited))
        self.defer(trigger=trigger, method_name=self.resume.__name__, timeout=self.execution_timeout)
        raise AssertionError

    def _resumed(self, site: Site, run: RunContext, told: Mapping[str, Any]) -> Resumed:
        launch = told["launch"]
        launched = come_back(site.store, launch, run.owner())
        return Resumed(launched, partial(self._finish, site, launched, launch["method"], told["event"]))

    def _leave(self, site: Site, goes_on: GoesOnError) -> NoReturn:
        """Leave the worker's slot; the triggerer waits for what was launched, and the task goes on in `resume_launch`."""
        from airflow_mlpipe.triggers.launch import LaunchTrigger  # noqa: PLC0415 -- needed only here

        deferred = goes_on.deferred
        self.log.info("gives its slot back while what it has launched goes on")
        trigger = LaunchTrigger(site.store.url, site.connection, goes_on.told(), *deferred.trigger.serialize())
        timeout = deferred.timeout or self.execution_timeout
        self.defer(trigger=trigger, method_name=self.resume_launch.__name__, timeout=timeout)
        raise AssertionError

    def _launcher(self, site: Site, spec: StepSpec) -> Launcher:
        from airflow_mlpipe.launchers.choose import launcher_for  # noqa: PLC0415 -- heavy, needed only to run

        return launcher_for(site, spec)

    def _launch(self, site: Site, spec: StepSpec, fingerprint: str, claim: str) -> StepResult:
        with self._tracked(spec) as told:
            secrets = self._secrets(told)
            launcher = self._begin(site, told)
            with leaving(launcher, told, fingerprint, claim), saying_how_long(spec.step, self.execution_timeout):
                return launcher.launch(told, fingerprint, claim, secrets, self.log.info)

    def _tracked(self, spec: StepSpec) -> AbstractContextManager[StepSpec]:
        return self.tracking.during(spec) if self.tracking else nullcontext(spec)

    def _finish(self, site: Site, launched: Launched, method: str, event: Any) -> StepResult:
        fingerprint, work = launched.fingerprint, launched.work
        with self._tracked(launched.spec) as spec:
            secrets = self._secrets(spec)
            launcher = self._begin(site, spec)
            with leaving(launcher, spec, fingerprint, work):
                if not isinstance(launcher, Deferring):
                    name = type(launcher).__name__
                    message = f"a step that was left to {name} cannot be come back to: clear the task"
                    raise StepError(message)
                return launcher.resume(spec, fingerprint, work, secrets, self.log.info, method, event)

    def _begin(self, site: Site, spec: StepSpec) -> Launcher:
        """Return the launcher of a step, which is killed when the task is."""
        launcher = self.launcher = self._launcher(site, spec)
        if self.stopped:
            launcher.kill()
        return launcher

    def _secrets(self, spec: StepSpec) -> dict[str, str]:
        from airflow_mlpipe.hooks.connections import secret  # noqa: PLC0415 -- needed only to run

        return {variable: secret(reference) for variable, reference in spec.environment.secrets.items()}

    def _show(self, outcome: Outcome, site: Site) -> None:
        """Fill the template fields, which the page Rendered Templates shows."""
        self.command = " ".join(_shown(argument, outcome.spec) for argument in outcome.spec.command)
        self.inputs = {name: given.uri for name, given in outcome.spec.inputs.items()}
        self.outputs = describe_outputs(outcome.outputs, site)
        self.components = {"fingerprint": outcome.fingerprint, **components(outcome.spec)}
        self.made_by = outcome.made_by


def typed(value: Any, declared: str | Sequence[str] | None) -> Any:
    """Return a number as the type of JSON that a param declares for it, so that one number is one value."""
    types = (declared,) if isinstance(declared, str) else declared or ()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if "number" in types:
        return float(value)
    return int(value) if "integer" in types and isinstance(value, float) and value.is_integer() else value


def describe_metrics(metrics: Mapping[str, float], outputs: Collection[str]) -> dict[str, dict[str, float]]:
    """Return metrics as other tasks see them in XCom: one key for all; nothing where an output has that name."""
    return {METRICS: dict(metrics)} if metrics and METRICS not in outputs else {}


def describe_outputs(outputs: Mapping[str, OutputRef], site: Site) -> dict[str, dict[str, Any]]:
    """Return outputs as other tasks see them in XCom."""
    return {name: describe_output(output, site) for name, output in outputs.items()}


def describe_output(output: OutputRef, site: Site) -> dict[str, Any]:
    """Return an output as other tasks see it in XCom."""
    content = output.content
    described: dict[str, Any] = {
        "uri": site.store.uri(output.path) if output.token is None else output.path,
        "digest": content.digest,
        "size": content.size,
        "files": content.files,
        "kind": content.kind,
    }
    if output.token is not None:
        described |= {"datastore": output.datastore, "token": output.token}
    return described


def _shown(argument: Argument, spec: StepSpec) -> str:
    """Return an argument with the values the step had; inputs and outputs by name, their paths are gone by now."""
    return "".join(part if isinstance(part, str) else _value(part, spec) for part in argument)


def _value(part: Reference, spec: StepSpec) -> str:
    match part.kind:
        case "parameter" if part.name in spec.parameters:  # those of a sweep differ from trial to trial
            return text_of(spec.parameters[part.name])
        case "run":
            return spec.run[part.name]
        case "interpreter":
            return "python"
        case kind:
            return f"<{kind} {part.name}>"
