"""Tells MLflow of a run: a run of its own for the pipeline's run, and one below it for each step.

Whatever goes wrong there is said once, and nothing else: tracking is not the result. Nothing of it is in a fingerprint, a
record or a note. A run is found again by a tag that is a digest of the names, so that another process, a retry or a task
that comes back from the triggerer goes on with the same one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.trials import trials_of
from airflow_mlpipe.resolving.mlflow import MlflowRun, MlflowServer
from airflow_mlpipe.runtime.protocol import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.definitions import Pipeline
    from airflow_mlpipe.resolving.planner import RunPlan
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import Scalar, StepSpec

_KEY = "mlpipe.key"
_PARENT = "mlflow.parentRunId"
_EXCUSED = "mlpipe.excused"
"""The tag of a trial that failed, where the sweep has succeeded without it."""

_URI = "MLFLOW_TRACKING_URI"
_OWN_RUN = {"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"}
"""What a step declares that logs to a run of its own."""
_LOGIN = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}


@dataclass(frozen=True)
class Ended:
    """How a step ended, as far as MLflow is told of it."""

    spec: StepSpec
    outcome: str
    fingerprint: str
    metrics: Mapping[str, float]
    made_by: Mapping[str, str] = field(default_factory=dict)


class Tracking:
    """What one process tells MLflow of one run; without a server in the workspace it does nothing.

    :param say: takes the one warning.
    :param experiment: the experiment of the pipeline, where it names one.
    :param names: by the step of a spec, its name in the run, where that is another one: that of a mapped task, say.
    """

    def __init__(  # noqa: PLR0913 -- where, of what, and who is told if it fails
        self,
        site: Site,
        pipeline: str,
        run: str,
        say: Callable[[str], None],
        experiment: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._site = site
        self._settings = site.workspace.mlflow
        self._pipeline = pipeline
        self._run = run
        self._say = say
        self._experiment_name = experiment
        self._names = names or {}
        self._server: MlflowServer | None = None
        self._experiment = ""
        self._parent: MlflowRun | None = None
        self._children: dict[str, MlflowRun] = {}
        self._states: dict[str, str] = {}
        """How what was launched here has ended, by the names of `_children`."""

    @classmethod
    def of(
        cls,
        site: Site,
        pipeline: Pipeline | str,
        run: str,
        say: Callable[[str], None],
        names: Mapping[str, str] | None = None,
    ) -> Tracking:
        """Return what tells of a run of a pipeline, or of a hand-written DAG, of which there is only the name.

        :param names: by the step of a spec, its name in the run, where that is another one.
        """
        if isinstance(pipeline, str):
            return cls(site, pipeline, run, say, None, names)
        return cls(site, pipeline.name, run, say, pipeline.experiment, names)

    def launched(self, spec: StepSpec) -> StepSpec:
        """Tell that a step is launched; return its spec with what plain MLflow in its script needs to log there."""
        with self._telling() as server:
            if server is None or self._settings is None:
                return spec
            child = self._child(spec.step)
            server.update(child.id, "RUNNING")
            server.update(self._the_parent().id, "RUNNING")
            return self._introduced(spec, server.address, child.id)
        return spec

    def _introduced(self, spec: StepSpec, address: str, run: str) -> StepSpec:
        """Return a spec whose script finds its run, unless its environment declares another place to log to.

        What is declared counts: with another server, neither run nor login of this one is given; with another run or
        experiment, those are left alone.
        """
        declared, secrets = spec.environment.variables, spec.environment.secrets
        if _URI in secrets or declared.get(_URI, address).rstrip("/") != address:
            return spec
        names = {*declared, *secrets}
        late = {} if _URI in names else {_URI: address}
        if not names & _OWN_RUN:
            late |= {"MLFLOW_RUN_ID": run, "MLFLOW_EXPERIMENT_NAME": self._name_of_experiment()}
        if not names & _LOGIN:
            secrets = {**self._secrets(), **secrets}
        return replace(spec, late=late, environment=replace(spec.environment, secrets=secrets))

    @contextmanager
    def during(self, spec: StepSpec) -> Iterator[StepSpec]:
        """Tell that a step is launched, and remember how that ends; give what `launched` returns."""
        name = self._names.get(spec.step, spec.step)
        self._states[name] = "RUNNING"
        try:
            yield self.launched(spec)
        except Exception:
            self._states[name] = "FAILED"
            raise
        self._states[name] = "FINISHED"

    def ended(self, ended: Ended) -> None:
        """Tell how a step has ended; what its script has told by itself stays as it is."""
        with self._telling() as server:
            if server is None:
                return
            own = self._child(ended.spec.step)
            self._end(server, ended, server.read(own.id))
            self._close(server, own, "FINISHED")
            self._settle(server, ended.spec, excused=True)
            self._judge(server)

    def _close(self, server: MlflowServer, own: MlflowRun, status: str) -> None:
        """Say how a step has ended, and each of those that were made again for it."""
        for name, child in self._children.items():
            ended = self._states.get(name, status)
            server.update(child.id, status if child is own or ended == "RUNNING" else ended)

    def _settle(self, server: MlflowServer, spec: StepSpec, *, excused: bool) -> None:
        """Say of the trials of a step that none of them goes on any more.

        :param excused: whether the step has succeeded, so that those which failed make no failure of the run.
        """
        names = {trial.spec.step for trial in trials_of(spec)}
        found = server.find(self._experiment, _PARENT, self._the_parent().id) if names else []
        for child in found:
            if child.tags.get("mlpipe.step") not in names:
                continue
            if child.status == "RUNNING":  # its worker has vanished
                server.update(child.id, "KILLED")
            if excused and child.status != "FINISHED":
                server.log(child.id, {}, {}, {_EXCUSED: "true"})

    def _end(self, server: MlflowServer, ended: Ended, known: MlflowRun) -> None:
        metrics = {key: value for key, value in ended.metrics.items() if known.metrics.get(key) != value}
        tags = {"mlpipe.fingerprint": ended.fingerprint, "mlpipe.outcome": ended.outcome, **self._maker(server, ended)}
        server.log(known.id, metrics, _parameters(ended.spec, known), tags)

    def failed(self, spec: StepSpec, *, killed: bool = False) -> None:
        """Tell that a step has failed, or was killed, before or after it was launched."""
        with self._telling() as server:
            if server is None:
                return
            own = self._child(spec.step)
            server.log(own.id, {}, {}, {"mlpipe.outcome": "killed" if killed else "failed", _EXCUSED: ""})
            self._close(server, own, "KILLED" if killed else "FAILED")
            self._settle(server, spec, excused=False)
            self._judge(server)

    def planned(self, plan: RunPlan) -> None:
        """Tell that the run begins, and of the steps that its plan reuses."""
        with self._telling() as server:
            if server is None:
                return
            found = server.find(self._experiment, _PARENT, self._the_parent().id)
            there = {run.tags.get(_KEY): run for run in found}
            for decision in plan.decisions.values():
                if decision.choice != "reuse" or decision.found is None:
                    continue
                child = there.get(_key(self._pipeline, self._run, decision.step)) or self._child(decision.step)
                made_by, metrics = decision.found.made_by, decision.found.metrics
                ended = Ended(decision.spec, "reused", str(decision.fingerprint), metrics, made_by)
                self._end(server, ended, child)
                server.update(child.id, "FINISHED")
            self._judge(server)

    @contextmanager
    def _telling(self) -> Iterator[MlflowServer | None]:
        """Give the server, or None where there is none; after the first failure there is none any more."""
        server = None
        try:
            server = self._opened()
        except Exception as error:  # noqa: BLE001 -- whatever it is: tracking is not the result
            self._gives_up(error)
        try:
            yield server
        except Exception as error:  # noqa: BLE001 -- as above
            self._gives_up(error)
        finally:
            if self._server is not None:
                self._server.close()

    def _gives_up(self, error: Exception) -> None:
        address = self._settings.address if self._settings else ""
        self._say(f"MLflow is not told of this run: {address}: {str(error) or repr(error)}")
        self._settings = None

    def _opened(self) -> MlflowServer | None:
        if self._settings is None:
            return None
        if self._server is None:
            connection = self._settings.connection
            login = self._site.login_of(connection) if connection else None
            self._server = MlflowServer(self._settings.address, login)
            self._experiment = self._server.experiment(self._name_of_experiment())
        return self._server

    def _name_of_experiment(self) -> str:
        default = self._settings.experiment if self._settings else None
        return self._experiment_name or default or self._pipeline

    def _secrets(self) -> dict[str, str]:
        """Return what logs a script in: the variables that MLflow reads, and where in Airflow their values are."""
        connection = self._settings.connection if self._settings else None
        if connection is None:
            return {}
        if self._site.login_of(connection).username:
            return {
                "MLFLOW_TRACKING_USERNAME": f"connection:{connection}.login",
                "MLFLOW_TRACKING_PASSWORD": f"connection:{connection}.password",
            }
        return {"MLFLOW_TRACKING_TOKEN": f"connection:{connection}.password"}

    def _the_parent(self) -> MlflowRun:
        if self._parent is None:
            self._parent = self._found_or_made(self._run, "", {"mlpipe.kind": "run"})
        return self._parent

    def _child(self, step: str) -> MlflowRun:
        step = self._names.get(step, step)
        if step not in self._children:
            tags = {_PARENT: self._the_parent().id, "mlpipe.kind": "step", "mlpipe.step": step}
            self._children[step] = self._found_or_made(step, step, tags)
        return self._children[step]

    def _found_or_made(self, name: str, step: str, tags: Mapping[str, str]) -> MlflowRun:
        """Return the run with a key. Where several processes make one at once, the oldest counts, and the others go."""
        server, key = self._needed(), _key(self._pipeline, self._run, step)
        if found := server.find(self._experiment, _KEY, key):
            return found[0]
        named = {"mlpipe.pipeline": self._pipeline, "mlpipe.run": self._run, "mlflow.source.name": self._pipeline}
        made = server.begin(self._experiment, name, {_KEY: key, **named, **tags})
        first = next(iter(server.find(self._experiment, _KEY, key)), made)
        if first.id != made.id:
            server.remove(made.id)
        return first

    @staticmethod
    def _maker_key(by: Mapping[str, str]) -> str:
        return _key(str(by.get("pipeline")), str(by.get("run")), str(by.get("step")))

    def _maker(self, server: MlflowServer, ended: Ended) -> dict[str, str]:
        """Return what leads to the run whose outputs were taken."""
        by = ended.made_by
        if ended.outcome == "ran" or not by:
            return {}
        tags = {f"mlpipe.made_by.{name}": str(by[name]) for name in ("pipeline", "run", "step") if name in by}
        if found := server.find(self._experiment, _KEY, self._maker_key(by)):
            words = f"{ended.outcome}: made by [{by.get('step')} in {by.get('run')}]({server.page(found[0])})"
            tags |= {"mlpipe.made_by.mlflow_run": found[0].id, "mlflow.note.content": words}
        return tags

    def _judge(self, server: MlflowServer) -> None:
        """Say of the run what its steps so far come to."""
        parent = self._the_parent().id
        found = server.find(self._experiment, _PARENT, parent)
        states = {child.status for child in found if not child.tags.get(_EXCUSED)}
        server.update(parent, next((state for state in ("RUNNING", "FAILED", "KILLED") if state in states), "FINISHED"))

    def _needed(self) -> MlflowServer:
        if self._server is None:
            raise AssertionError
        return self._server


def _parameters(spec: StepSpec, known: MlflowRun) -> dict[str, str]:
    """Return the parameters that the script has not told by itself; MLflow refuses another value."""
    values: dict[str, Scalar] = {**spec.parameters, **spec.run}
    return {name: text_of(value) for name, value in values.items() if name not in known.parameters}


def _key(pipeline: str, run: str, step: str) -> str:
    return fingerprint({"pipeline": pipeline, "run": run, "step": step})
