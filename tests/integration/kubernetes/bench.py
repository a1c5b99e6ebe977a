"""The bench of launchers, with steps that run in pods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.launchers.kubernetes.launcher import KubernetesLauncher
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.runtime.protocol import StepSpec
from airflow_mlpipe.store.digests import StatIndex
from tests.integration.kubernetes.cluster import image
from tests.launchers.steps import Bench

if TYPE_CHECKING:
    from tests.integration.kubernetes.cluster import Namespace
    from tests.s3 import Server


@dataclass
class PodBench(Bench):
    """Launches scripts as steps in pods; ``fields`` are those of their compute target."""

    namespace: Namespace | None = None
    server: Server | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    workspace: Workspace = field(default_factory=Workspace)

    def launcher(self, options: dict[str, Any] | None = None) -> KubernetesLauncher:
        """Return a launcher.

        :param options: with which pods open the store, if not as here.
        """
        assert self.server
        options = options or self.server.options
        site = Site(self.workspace, self.store, StatIndex.open(), lambda _: options, connection="store")
        return KubernetesLauncher(site)

    def target(self, **fields: Any) -> dict[str, Any]:
        """Return a compute target whose pods ask for little."""
        assert self.namespace
        small = {"requests": {"cpu": "10m", "memory": "16Mi"}}
        staging = {"requests": {"cpu": "10m", "memory": "64Mi"}}
        return {
            "kind": "kubernetes",
            "namespace": self.namespace.name,
            "staging_image": image("staging"),
            "resources": small,
            "staging_resources": staging,
            "deferrable": False,
            "pending_timeout": 120,
            **self.fields,
            **fields,
        }

    def placed(self, spec: StepSpec, kind: str = "python", **fields: Any) -> StepSpec:
        """Return a step with an image and a compute target."""
        pinned = kind if ":" in kind else image(kind)
        environment = replace(spec.environment, image=pinned, interpreter="python3")
        return replace(spec, environment=environment, target=self.target(**fields))

    def spec(self, script: str, **fields: Any) -> StepSpec:
        target, kind = fields.pop("target", {}), fields.pop("image", "python")
        return self.placed(super().spec(script, **fields), kind, **target)

    def shell(self, script: str, target: dict[str, Any] | None = None, **fields: Any) -> StepSpec:
        """Return a step that is a shell script, in an image that has nothing but busybox."""
        kind = fields.pop("image", "busybox")
        code = self.snapshot({"main.sh": script})
        spec = StepSpec("p", "s", "command", (("sh",), ("main.sh",)), code=code, **fields)
        return self.placed(spec, kind, **(target or {}))
