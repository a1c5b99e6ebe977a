"""A launcher without processes: a step's outputs are a pure function of what its command may see.

Staging, checks and publishing are the real ones; only the command is replaced. What it sees is read back from the
filled step directory, so a test knows it without asking for a fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.local import LocalLauncher
from airflow_mlpipe.launchers.transfer import TransferLauncher
from airflow_mlpipe.resolving.environments import interpreter_for
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.protocol import StepResult, load_spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.layout import StepDirectory
    from airflow_mlpipe.runtime.protocol import StepSpec

FAILS = "raise SystemExit(1)"
"""A line of code that makes a step fail."""

COARSE = "coarse = True"
"""A line of code that makes a step look at nothing of its inputs but whether their size is even."""

Seen = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """One launch: what the command saw, its code among it, and below which path of the store its outputs lie."""

    step: str
    seen: str
    code: frozenset[tuple[str, bool]]
    prefix: str


@dataclass
class Launches:
    """Makes launchers for an engine, and remembers what they launched."""

    made: list[Launch] = field(default_factory=list)

    def __call__(self, site: Site, spec: StepSpec) -> Any:
        if spec.kind == "data_transfer":
            return TransferLauncher(site)
        return _Pure(site, self)

    def taken(self) -> list[Launch]:
        """Return the launches since it was asked last."""
        made, self.made = self.made, []
        return made


class _Pure(LocalLauncher):
    def __init__(self, site: Site, launches: Launches) -> None:
        super().__init__(site.store, site.open_uri, lambda spec: interpreter_for(spec.environment, site.store))
        self._launches = launches
        self._prefix = ""

    def launch(self, spec: StepSpec, fingerprint: str, claim: str, *rest: Any) -> StepResult:
        self._prefix = f"outputs/{fingerprint}/{claim}"
        nothing_imported = replace(spec, environment=replace(spec.environment, observe=False))
        return super().launch(nothing_imported, fingerprint, claim, *rest)

    def _supervise(self, directory: StepDirectory, *_: Any) -> StepResult:
        spec = load_spec(json.loads(directory.spec.read_bytes()))
        seen = visible(spec, directory)
        code = frozenset((path, executable) for path, _, executable in seen["code"])
        self._launches.made.append(Launch(spec.step, digest(seen), code, self._prefix))
        lines = [line for _, content, _ in seen["code"] for line in content.splitlines()]
        if FAILS.encode() in lines:
            return StepResult(1, f"the command says {FAILS}")
        for name in spec.outputs:
            _write(directory.outputs / name, digest(_meaning(seen, coarse=COARSE.encode() in lines), name))
        return StepResult(0)


def visible(spec: StepSpec, directory: StepDirectory) -> Seen:
    """Return all that a command may look at, with the step directory's own path taken out."""
    root = str(directory.root)
    variables = command.environment(spec, directory, {})
    return {
        "command": [text.replace(root, "") for text in command.arguments(spec, directory.places(spec))],
        "variables": sorted((name, text.replace(root, "")) for name, text in variables.items()),
        "code": _files(directory.code, executable=True),
        "inputs": _files(directory.inputs),
        "parameters": sorted((name, repr(value)) for name, value in spec.parameters.items()),
        "run": sorted(spec.run.items()),
        "outputs": sorted((name, output.kind) for name, output in spec.outputs.items()),
    }


def digest(seen: Mapping[str, Any], name: str = "") -> str:
    return hashlib.sha256(repr((sorted(seen.items()), name)).encode()).hexdigest()


def _meaning(seen: Seen, *, coarse: bool) -> Seen:
    """Return what the outputs depend on: comments have no meaning, and inputs less of it where coarse."""
    inputs = [(path, len(content) % 2) for path, content, _ in seen["inputs"]] if coarse else seen["inputs"]
    code = [
        (path, [line for line in content.splitlines() if not line.startswith(b"#")], executable)
        for path, content, executable in seen["code"]
    ]
    return {**seen, "inputs": inputs, "code": code}


def _files(folder: Path, *, executable: bool = False) -> list[tuple[str, bytes, bool]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        (path.relative_to(folder).as_posix(), path.read_bytes(), executable and bool(path.stat().st_mode & 0o100))
        for path in paths
    ]


def _write(path: Path, text: str) -> None:
    """Write an output: a folder where its name says so."""
    if "folder" in path.name:
        path.mkdir()
        (path / "a").write_text(text[:32])
        (path / "b").write_text(text[32:])
    else:
        path.write_text(text)
