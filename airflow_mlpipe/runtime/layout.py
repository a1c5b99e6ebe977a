"""The step directory: the one place that knows where things lie in it (docs: what a script sees)."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlpipe.runtime.protocol import StepSpec


@dataclass(frozen=True)
class StepDirectory:
    """Paths in a step directory. ``root`` must be absolute, without symbolic links in it."""

    root: Path

    @property
    def code(self) -> Path:
        """The working directory of the command: a copy of the snapshot."""
        return self.root / "code"

    @property
    def inputs(self) -> Path:
        """Inputs by name."""
        return self.root / "inputs"

    @property
    def outputs(self) -> Path:
        """Outputs by name; the script makes them."""
        return self.root / "outputs"

    @property
    def spec(self) -> Path:
        """The message into the step."""
        return self.root / "spec.json"

    @property
    def result(self) -> Path:
        """The message out of the step; there when the command and all it started have ended."""
        return self.root / "result.json"

    @property
    def metrics(self) -> Path:
        """What the script measured, one JSON object a line."""
        return self.root / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What the script wants to find again at its next try."""
        return self.root / "checkpoint"

    @property
    def home(self) -> Path:
        """The fresh HOME of the script."""
        return self.root / "private" / "home"

    @property
    def temporary(self) -> Path:
        """The fresh TMPDIR of the script."""
        return self.root / "private" / "tmp"

    @property
    def short_temporary(self) -> Path:
        """Where a link to `temporary` may lie while the command runs, if the path of that is long."""
        number = zlib.crc32(os.fsencode(self.temporary))
        return Path("/tmp", f"mlpipe-{number:08x}")  # noqa: S108 -- created exclusively

    @property
    def python(self) -> Path:
        """The folder on PYTHONPATH: the module `mlpipe`, and the recorder of imports where they are observed."""
        return self.root / "private" / "python"

    @property
    def imports(self) -> Path:
        """What the recorder wrote."""
        return self.root / "private" / "imports"

    def places(self, spec: StepSpec) -> dict[tuple[str, str], str]:
        """Return where the script finds each input and output: ``("input" | "output", name)`` -> path or URI."""
        places = {("input", name): str(self.inputs / name) for name in spec.inputs}
        for name, bound in spec.inputs.items():
            if bound.mode == "direct" and bound.uri is not None:
                places["input", name] = bound.uri
        return places | {("output", name): str(self.outputs / name) for name in spec.outputs}
