"""A project on disk with a store of its own, and records as earlier runs left them there."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import CommandStep, EstimatorStep, Pipeline, PythonScriptStep, Workspace
from airflow_mlpipe.fingerprint import fingerprint
from airflow_mlpipe.planning.bind import Values, components
from airflow_mlpipe.resolving.facts import Facts
from airflow_mlpipe.resolving.records import make_body
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import OutputRef, StepResult
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.log import commit_unclaimed
from airflow_mlpipe.store.outputs import publish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.definitions import Step
    from airflow_mlpipe.runtime.protocol import StepSpec
    from airflow_mlpipe.store.log import Record


@dataclass
class Project:
    """A folder with scripts and data, and the store that its runs share."""

    root: Path
    workspace: Workspace = field(default_factory=Workspace)

    @property
    def site(self) -> Site:
        return Site.open(self.workspace, default_store=self.root / "store")

    def write(self, path: str, text: str = "1\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def pipeline(self, *steps: Step, **fields: Any) -> Pipeline:
        pipeline = Pipeline(**{"name": "p", "steps": list(steps), **fields})
        pipeline.folder = self.root
        return pipeline

    def facts(self, pipeline: Pipeline, values: Values | None = None) -> Facts:
        return Facts(self.site, pipeline, values or Values())

    def spec(self, pipeline: Pipeline, step: str, values: Values | None = None) -> StepSpec:
        """Return the spec of a step, with its external inputs as they are now."""
        facts = self.facts(pipeline, values)
        return facts.read_inputs(facts.task(pipeline.step(step)).spec)

    def fingerprint(self, pipeline: Pipeline, step: str, values: Values | None = None) -> str:
        return fingerprint(components(self.spec(pipeline, step, values)))

    def made(self, spec: StepSpec, run: str = "r0", *, outputs: Mapping[str, str] | None = None, **body: Any) -> Record:
        """Leave the record of a step that ran, and its outputs: a text each."""
        key, claim, published = fingerprint(components(spec)), uuid.uuid4().hex, {}
        texts = dict.fromkeys(spec.outputs, "made\n") if outputs is None else outputs
        for name, text in texts.items():
            content = publish(self.site.store, key, claim, name, self.write(f"made/{claim}/{name}", text))
            published[name] = OutputRef(layout.output(key, claim, name), content)
        made_by = {"pipeline": spec.pipeline, "run": run, "step": spec.step}
        whole = make_body(spec, StepResult(0, outputs=published), made_by)
        return commit_unclaimed(self.site.store, key, claim, {**whole, **body})


def script(name: str, **fields: Any) -> PythonScriptStep:
    """Return a step that runs a script of `src`."""
    return PythonScriptStep(**{"name": name, "script_name": f"{name}.py", "source_directory": "src", **fields})


def estimator(name: str, **fields: Any) -> EstimatorStep:
    """Return a step that trains with a script of `src`."""
    return EstimatorStep(**{"name": name, "entry_script": f"{name}.py", "source_directory": "src", **fields})


def command(name: str, text: str = "true", **fields: Any) -> CommandStep:
    """Return a step without code."""
    return CommandStep(name=name, command=text, **fields)
