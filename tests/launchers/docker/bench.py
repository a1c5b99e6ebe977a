"""The bench of launchers, with steps that run in containers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.docker.launcher import DockerLauncher
from airflow_mlpipe.runtime.protocol import StepSpec
from tests.engine import BUSYBOX, PYTHON, STATIC
from tests.launchers.steps import Bench, open_uri

if TYPE_CHECKING:
    from tests.engine import Engine


@dataclass
class DockerBench(Bench):
    """Launches scripts as steps in containers of an engine; ``fields`` are those of their compute target."""

    engine: Engine | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    def launcher(self) -> DockerLauncher:
        return DockerLauncher(self.store, open_uri)

    def placed(self, spec: StepSpec, image: str = PYTHON, **fields: Any) -> StepSpec:
        """Return a step with an image of the engine and a compute target."""
        assert self.engine
        pinned = image if "sha256:" in image else self.engine.id_of(image)
        environment = replace(spec.environment, image=pinned)
        target = {"kind": "docker", "host": self.engine.host, **self.fields, **fields}
        return replace(spec, environment=environment, target=target)

    def spec(self, script: str, **fields: Any) -> StepSpec:
        target, image = fields.pop("target", {}), fields.pop("image", PYTHON)
        return self.placed(super().spec(script, **fields), image, **target)

    def shell(self, script: str, image: str = BUSYBOX, target: dict[str, Any] | None = None, **fields: Any) -> StepSpec:
        """Return a step that is a shell script, in an image that has nothing but busybox."""
        code = self.snapshot({"main.sh": script})
        return self._command(("sh", "main.sh"), image, target, code=code, **fields)

    def static(self, *command: str, target: dict[str, Any] | None = None, **fields: Any) -> StepSpec:
        """Return a step in an image that has one program and nothing else."""
        return self._command(("/busybox", *command), STATIC, target, **fields)

    def _command(self, command: tuple[str, ...], image: str, target: dict[str, Any] | None, **fields: Any) -> StepSpec:
        spec = StepSpec("p", "s", "command", tuple((word,) for word in command), **fields)
        return self.placed(spec, image, **(target or {}))
