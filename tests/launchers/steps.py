"""A store with data in it, and scripts launched on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs

from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.resolving.references import content_of
from airflow_mlpipe.runtime.protocol import InputSpec, Reference, StepResult, StepSpec
from airflow_mlpipe.store import layout
from airflow_mlpipe.store.digests import digest_path
from airflow_mlpipe.store.outputs import publish
from airflow_mlpipe.store.snapshots import Snapshot, SourceFile, pack

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlpipe.store.store import Store

FINGERPRINT = "ab" * 32


def open_uri(uri: str, _datastore: str | None) -> tuple[Any, str]:
    fs, path = url_to_fs(uri)
    return fs, path


@dataclass
class Bench:
    """Launches scripts as steps."""

    root: Path
    store: Store
    interpreter: str
    logged: list[str] = field(default_factory=list)
    count: int = 0

    def snapshot(self, files: dict[str, str]) -> str:
        self.count += 1
        folder = self.root / f"source{self.count}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        sources = {name: SourceFile(digest_path(folder / name).digest, executable=False) for name in files}
        snapshot = Snapshot(sources)
        pack(self.store, folder, snapshot)
        return snapshot.digest

    def spec(self, script: str, **fields) -> StepSpec:
        code = self.snapshot({"main.py": script})
        command = ((Reference("interpreter"),), ("main.py",))
        return StepSpec(**{"pipeline": "p", "step": "s", "kind": "command", "command": command, "code": code, **fields})

    def launcher(self) -> LocalLauncher:
        return LocalLauncher(self.store, open_uri, lambda _: self.interpreter)

    def launch(self, spec: StepSpec, claim: str = "claim", secrets=None, launcher=None) -> StepResult:
        return (launcher or self.launcher()).launch(spec, FINGERPRINT, claim, secrets or {}, self.logged.append)

    def stored(self, source: Path, claim: str = "earlier", name: str = "data") -> InputSpec:
        """Publish data as the output of an earlier step; return it as an input."""
        content = publish(self.store, FINGERPRINT, claim, name, source)
        return InputSpec(uri=self.store.uri(layout.output(FINGERPRINT, claim, name)), content=content)

    @staticmethod
    def external(uri: str | Path, **fields) -> InputSpec:
        """Bind data from outside the store."""
        uri = uri if isinstance(uri, str) else uri.as_uri()
        content, token = content_of(uri, *open_uri(uri, None), fields.get("compare"))
        return InputSpec(uri=uri, content=content, token=token, **fields)

    def outputs(self) -> dict[str, int]:
        """Return what is published under the fingerprint, besides the results."""
        sizes = self.store.sizes(f"outputs/{FINGERPRINT}")
        return {path: size for path, size in sizes.items() if not path.endswith("/.result.json")}

    def work(self) -> list[str]:
        """Return the step directories that are still there."""
        return self.store.names("work")
