"""`StepOutputSensor`: waits for an output of another pipeline's step, or of another DAG's task."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException
from pydantic import TypeAdapter, ValidationError

from airflow_mlpipe.definitions.faults import Fault, Refused, faults_of, shown
from airflow_mlpipe.definitions.values import Moment
from airflow_mlpipe.exceptions import DataError, DefinitionError, MlpipeError, StoreError, StoreUnreachableError
from airflow_mlpipe.naming import check_port_name
from airflow_mlpipe.operators.here import open_site, workspace_at
from airflow_mlpipe.operators.links import MadeByLink
from airflow_mlpipe.operators.run_context import RunContext
from airflow_mlpipe.operators.step import describe_outputs
from airflow_mlpipe.resolving.confirmed import look_again, look_back, source_of, write_down
from airflow_mlpipe.resolving.predicate import Predicate
from airflow_mlpipe.resolving.waiting import Waiting, Wanted, record_name
from airflow_mlpipe.triggers.step_output import StepOutputTrigger, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from airflow.sdk import Context, XComArg

    from airflow_mlpipe.resolving.confirmed import Source
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.resolving.waiting import Confirmed

CONFIRMED_BY = "confirmed-by"
"""The XCom key of the run that made or confirmed the outputs; no output can have this name."""

_GRACE = 60.0
"""Seconds after the time is up in which the triggerer may still say what it saw, before Airflow ends the wait."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


class StepOutputSensor(BaseSensorOperator):
    """Wait for the newest output of a step that a run made, or confirmed by reusing it.

    Its outputs are XCom keys as those of an operator: ``sensor.output["model"]`` can be the input of a step. The key
    ``confirmed-by`` tells the run. While it waits it holds no worker slot; all sensors that wait for steps of one pipeline
    cost one listing of the store every ``poke_interval`` together.

    :param pipeline: the pipeline; or a DAG, whose tasks are operators of this package.
    :param step: the step of the pipeline, or the task of the DAG.
    :param output: the output that is needed, or several; all, if not given.
    :param after: the earliest logical date of a run that counts (of a run without one: when it could start). If neither
        this nor ``where`` is given, this run's own.
    :param where: what the metrics and parameters of a run must be: ``metrics.accuracy >= 0.9 and parameters.c < 2``.
    :param fingerprint: waits for a record of this fingerprint instead.
    :param workspace: the workspace file; by default as ``[mlpipe] workspace`` says.
    :param deferrable: whether the triggerer waits; else a worker does, as ``mode`` says.
    :raises DefinitionError: if these do not fit together, or ``where`` is no condition.
    """

    template_fields: Sequence[str] = ("of_pipeline", "of_step", "outputs", "after", "where", "fingerprint")
    operator_extra_links = (MadeByLink(),)
    ui_color = "#fff2cc"

    def __init__(  # noqa: PLR0913 -- what can be waited for
        self,
        *,
        pipeline: str | XComArg = "",
        step: str | XComArg = "",
        output: str | Sequence[str] | None = None,
        after: str | date | XComArg | None = None,
        where: str | XComArg | None = None,
        fingerprint: str | XComArg = "",
        workspace: str | Path | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.of_pipeline = pipeline
        self.of_step = step
        self.outputs = [output] if isinstance(output, str) else list(output or ())
        self.after = after
        self.where = where
        self.fingerprint = fingerprint
        self.workspace = workspace
        self.deferrable = deferrable
        self.made_by: Mapping[str, str] = {}
        self._message = ""
        self._waiting: Waiting | None = None
        self._source: Source | None = None
        self._refuse(_faults({name: value for name, value in self._given().items() if not _is_open(value)}))

    def execute(self, context: Context) -> Any:
        """Look once; then let the triggerer look on, or do so here."""
        with self._saying_what():
            if not self.deferrable:
                return super().execute(context)
            until = datetime.now(timezone.utc) + timedelta(seconds=self.timeout)
            return self._found_or_deferred(context, until, frozenset())

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at the store, from where the last look ended."""
        site = self._site()
        if self._waiting is None:
            self._waiting = Waiting(self._wanted(context))
        found = self._look(site, self._waiting)
        return PokeReturnValue(bool(found), self._result(context, site, found) if found else None)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer."""
        self._message = f"waits for {self._wanted(context)}; the triggerer did not say what it saw: see that one runs"
        with self._saying_what():
            return super().resume_execution(next_method, next_kwargs, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Take what the triggerer found, if it is there.

        :raises AirflowSensorTimeout: if nothing came in time.
        :raises DataError: if waiting is in vain.
        """
        match event["status"]:
            case "failed":
                raise DataError(event["message"])
            case "timeout":
                self._message = event["message"]
                message = f"nothing came in {self.timeout:g} seconds"
                raise AirflowSensorTimeout(message)
        site, confirmed, rejected = self._site(), event["confirmed"], set(event["rejected"])
        try:
            found = look_again(site, self._wanted(context), confirmed)
        except StoreUnreachableError as error:
            self.log.info("what the triggerer found cannot be seen from here: %s", error)
        else:
            if not isinstance(found, str):
                return self._result(context, site, found)
            self.log.info("what the triggerer found does not count here: %s", found)
            rejected.add(record_name(confirmed["fingerprint"], confirmed["number"]))
        return self._found_or_deferred(context, datetime.fromisoformat(event["until"]), frozenset(rejected))

    def _found_or_deferred(self, context: Context, until: datetime, rejected: frozenset[str]) -> Any:
        site, waiting = self._site(), Waiting(self._wanted(context), rejected=rejected)
        place = place_of(site)
        if found := self._look(site, waiting):
            return self._result(context, site, found)
        seen = {name: getattr(waiting, name) for name in ("since", "news", "checked")}
        self.defer(
            trigger=StepOutputTrigger(
                place,
                waiting.wanted.to_json(),
                {**seen, "rejected": sorted(rejected)},
                self.poke_interval,
                until.isoformat(),
                pause=self.poke_interval if waiting.trouble else 0.0,
            ),
            method_name="execute_complete",
            timeout=max(until - datetime.now(timezone.utc), timedelta()) + timedelta(seconds=_GRACE),
        )
        return None

    def _look(self, site: Site, waiting: Waiting) -> Confirmed | None:
        """Look once: back from now the first time, later at what is new. A store out of reach says nothing."""
        found = None
        try:
            if self._source is None:
                found = look_back(site, waiting)
                self._source = source_of(waiting.wanted)
            else:
                self._source.read(site, waiting.since)
                found = self._source.judge(waiting)
            waiting.trouble = ""
        except StoreUnreachableError as error:
            waiting.trouble = f"the last look failed: {error}"
        if not found and waiting.message() != self._message:
            self._message = waiting.message()
            self.log.info("%s", self._message)
        return found

    def _result(self, context: Context, site: Site, found: Confirmed) -> dict[str, dict[str, Any]]:
        """Return the outputs as other tasks see them; what else may interest these goes to an XCom of its own."""
        run = RunContext.of(context)
        self.log.info("found: %s", found)
        self.made_by = found.made_by
        record = {"fingerprint": found.record.fingerprint, "number": found.record.number}
        context["ti"].xcom_push(CONFIRMED_BY, {**found.by, **record, "made_by": dict(found.made_by)})
        try:
            write_down(site, {"pipeline": run.pipeline, "run": run.run, "step": run.step}, run.moments, found)
        except StoreError as error:
            self.log.warning("retention does not learn that this run uses it, and may remove it: %s", error)
        wanted = self.outputs or found.outputs
        return {name: output for name, output in describe_outputs(found.outputs, site).items() if name in wanted}

    def _site(self) -> Site:
        return open_site(workspace_at(self.workspace, Path(self.dag.folder)))

    def _given(self) -> dict[str, Any]:
        given = (self.of_pipeline, self.of_step, self.outputs, self.after, self.where, self.fingerprint)
        return dict(zip(("pipeline", "step", "output", "after", "where", "fingerprint"), given, strict=True))

    def _wanted(self, context: Context) -> Wanted:
        """Return what is waited for, now that templates are rendered.

        :raises DefinitionError: if they came to nothing that can be waited for.
        """
        given = self._given()
        self._refuse(_faults(given))
        after = _MOMENT.validate_python(given["after"]) if given["after"] else None
        where = Predicate.parse(given["where"]) if given["where"] else None
        if not (after or where or given["fingerprint"]):
            after = context.get("logical_date") or context["dag_run"].run_after
        outputs = tuple(given["output"])
        return Wanted(given["pipeline"] or "", given["step"] or "", outputs, after, where, given["fingerprint"] or "")

    def _refuse(self, faults: Iterator[Fault]) -> None:
        owner = f"{type(self).__name__}(task_id={self.task_id!r})"
        problems = [fault.below(owner).problem() for fault in faults]
        if problems:
            raise DefinitionError(problems)

    @contextmanager
    def _saying_what(self) -> Iterator[None]:
        """Add to whatever ends the wait what was waited for, and what was seen last."""
        try:
            yield
        except AirflowSkipException as skipped:
            raise AirflowSkipException(self._with_what(skipped.__cause__ or skipped)) from skipped
        except AirflowSensorTimeout as late:
            raise AirflowSensorTimeout(self._with_what(late)) from late
        except MlpipeError as error:
            if self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise

    def _with_what(self, error: BaseException) -> str:
        return f"{error}; {self._message}" if self._message not in str(error) else str(error)


def _faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong with what was given; what is not known yet is not among it."""
    yield from _misplaced(given)
    if (fingerprint := given.get("fingerprint")) and not _FINGERPRINT.match(str(fingerprint)):
        yield Fault(("fingerprint",), "must be 64 hexadecimal digits", value=shown(fingerprint))
    for output in given["output"]:
        if not _is_open(output) and (wrong := check_port_name(str(output))):
            yield Fault(("output",), wrong, value=shown(output))
    yield from _unreadable("after", given.get("after"), _MOMENT.validate_python)
    yield from _unreadable("where", given.get("where"), Predicate.parse)


def _unreadable(name: str, value: Any, parse: Callable[[Any], object]) -> Iterator[Fault]:
    try:
        if value:
            parse(value)
    except (ValidationError, Refused) as error:
        yield from (fault.below(name) for fault in faults_of(error))


def _misplaced(given: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what does not go together: what is waited for is a pipeline's step, or a fingerprint."""
    if given.get("fingerprint"):
        for name in ("pipeline", "step", "after", "where"):
            if given.get(name):
                yield Fault((name,), "stands beside a fingerprint", "Give pipeline and step, or a fingerprint alone")
    elif "fingerprint" in given:
        for name in ("pipeline", "step"):
            if not given.get(name, "not known yet"):
                yield Fault((name,), "is missing", "Give pipeline and step, or a fingerprint")


def _is_open(value: Any) -> bool:
    """Say whether a value is only known when the task runs."""
    return hasattr(value, "iter_references") or (isinstance(value, str) and ("{{" in value or "{%" in value))
